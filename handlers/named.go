package handlers

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/skytools/skyd/pgq"
)

// parameters are the names that a statement may use, with their types.
var parameters = map[string]string{
	"ev_id": "bigint", "ev_time": "timestamptz", "ev_txid": "bigint", "ev_retry": "integer",
	"ev_type": "text", "ev_data": "text", "ev_extra1": "text", "ev_extra2": "text", "ev_extra3": "text", "ev_extra4": "text",
	"queue": "text", "consumer": "text", "batch_id": "bigint",
}

// parseNamed puts numbered parameters in the place of :names, and lists the names in the order of the numbers. Text in
// quotes, dollar quotes and comments, and the :: of a cast, stay as they are.
func parseNamed(sql string) (text string, names []string, err error) {
	var b strings.Builder
	for i := 0; i < len(sql); {
		if n := opaque(sql[i:]); n > 0 {
			b.WriteString(sql[i : i+n])
			i += n
			continue
		}
		if sql[i] == '$' && i+1 < len(sql) && sql[i+1] >= '0' && sql[i+1] <= '9' {
			return "", nil, errors.New("use named parameters such as :ev_data, not $1")
		}
		if sql[i] != ':' || i+1 == len(sql) || !letter(sql[i+1]) {
			b.WriteByte(sql[i])
			i++
			continue
		}
		end := i + 1
		for end < len(sql) && (letter(sql[end]) || sql[end] >= '0' && sql[end] <= '9') {
			end++
		}
		name := sql[i+1 : end]
		kind, ok := parameters[name]
		if !ok {
			return "", nil, fmt.Errorf("no parameter :%s; there are :%s", name, strings.Join(parameterNames(), " :"))
		}
		at := slices.Index(names, name)
		if at < 0 {
			at, names = len(names), append(names, name)
		}
		b.WriteString("$" + strconv.Itoa(at+1) + "::" + kind)
		i = end
	}
	return b.String(), names, nil
}

// parameterNames lists them for people.
func parameterNames() []string {
	var names []string
	for name := range parameters {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func letter(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' }

// opaque returns the length of the quoted text, comment or cast that s begins with, or 0.
func opaque(s string) int {
	switch {
	case strings.HasPrefix(s, "::"):
		return 2
	case strings.HasPrefix(s, "--"):
		return until(s, 2, "\n")
	case strings.HasPrefix(s, "/*"):
		return until(s, 2, "*/")
	case s[0] == '\'' || s[0] == '"':
		return until(s, 1, s[:1])
	case (s[0] == 'E' || s[0] == 'e') && len(s) > 1 && s[1] == '\'':
		return escaped(s)
	case letter(s[0]):
		// a word: an E at its end does not begin a literal
		n := 1
		for n < len(s) && (letter(s[n]) || s[n] >= '0' && s[n] <= '9' || s[n] == '$') {
			n++
		}
		return n
	case s[0] == '$':
		end := strings.IndexByte(s[1:], '$') + 2
		if end < 2 || strings.ContainsFunc(s[1:end-1], func(r rune) bool { return r < 128 && !letter(byte(r)) && (r < '0' || r > '9') }) ||
			end > 2 && s[1] >= '0' && s[1] <= '9' {
			return 0
		}
		return until(s, end, s[:end])
	}
	return 0
}

// until is the length up to and with the next end after a beginning of n bytes.
func until(s string, n int, end string) int {
	at := strings.Index(s[n:], end)
	if at < 0 {
		return len(s)
	}
	return n + at + len(end)
}

// escaped is the length of an E literal.
func escaped(s string) int {
	for i := 2; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '\'':
			return i + 1
		}
	}
	return len(s)
}

// argument is the value of a parameter.
func argument(name string, b *pgq.Batch, ev *pgq.Event) any {
	switch name {
	case "ev_id":
		return ev.ID
	case "ev_time":
		return ev.Time
	case "ev_txid":
		return ev.Txid
	case "ev_retry":
		return ev.Retry
	case "ev_type":
		return ev.Type
	case "ev_data":
		return ev.Data
	case "queue":
		return b.Queue
	case "consumer":
		return b.Consumer
	case "batch_id":
		return b.ID
	}
	return field(strings.TrimPrefix(name, "ev_"), ev)
}

// field is a text field of an event by its name in the configuration.
func field(name string, ev *pgq.Event) pgq.Text {
	switch name {
	case "type":
		return ev.Type
	case "extra1":
		return ev.Extra1
	case "extra2":
		return ev.Extra2
	case "extra3":
		return ev.Extra3
	default:
		return ev.Extra4
	}
}
