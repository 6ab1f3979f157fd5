package configs

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The schema of the configuration is the Config type itself, read by reflection.

var durationType = reflect.TypeFor[time.Duration]()

// keysOf lists the keys of a section in the order of its fields.
func keysOf(section reflect.Type) []string {
	keys := make([]string, 0, section.NumField())
	for f := range section.Fields() {
		keys = append(keys, f.Tag.Get("koanf"))
	}
	return keys
}

// fieldOf finds the type of a key of a section.
func fieldOf(section reflect.Type, key string) (reflect.Type, bool) {
	for f := range section.Fields() {
		if f.Tag.Get("koanf") == key {
			return f.Type, true
		}
	}
	return nil, false
}

// typeAt finds the type of a path like http.listen or databases.0.dsn.
func typeAt(path []string) (reflect.Type, bool) {
	t := reflect.TypeFor[Config]()
	for _, part := range path {
		switch {
		case t.Kind() == reflect.Struct:
			next, ok := fieldOf(t, part)
			if !ok {
				return nil, false
			}
			t = next
		case t.Kind() == reflect.Slice && isIndex(part):
			t = t.Elem()
		default:
			return nil, false
		}
	}
	return t, true
}

// isIndex reports whether s is a small non-negative number.
func isIndex(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 0 && n < 1000
}

// typeName says in words what a value of the type looks like.
func typeName(t reflect.Type) string {
	switch {
	case t == durationType:
		return "a duration like 1m30s"
	case t.Kind() == reflect.Struct:
		return "a section of keys"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return "a list of sections"
	case t.Kind() == reflect.Slice:
		return "a list of texts"
	case t.Kind() == reflect.Map:
		return "a section of texts"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int:
		return "a whole number"
	case t.Kind() == reflect.Float64:
		return "a number"
	default:
		return "a text"
	}
}

// parseScalar reads the text of one value.
func parseScalar(t reflect.Type, text string) (any, error) {
	var (
		v   any
		err error
	)
	switch {
	case t == durationType:
		return parseDuration(text)
	case t.Kind() == reflect.String:
		return text, nil
	case t.Kind() == reflect.Bool:
		switch strings.ToLower(text) {
		case "true", "yes", "on":
			return true, nil
		case "false", "no", "off":
			return false, nil
		}
		err = strconv.ErrSyntax
	case t.Kind() == reflect.Int:
		v, err = strconv.Atoi(text)
	case t.Kind() == reflect.Float64:
		v, err = strconv.ParseFloat(text, 64)
	default:
		err = strconv.ErrSyntax
	}
	if err != nil {
		return nil, fmt.Errorf("must be %s (got %q)", typeName(t), text)
	}
	return v, nil
}

// intervalUnits are the units of PostgreSQL's interval text that have a fixed length.
var intervalUnits = map[string]time.Duration{
	"us": time.Microsecond, "usec": time.Microsecond, "microsecond": time.Microsecond,
	"ms": time.Millisecond, "msec": time.Millisecond, "millisecond": time.Millisecond,
	"s": time.Second, "sec": time.Second, "second": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hour": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour,
	"w": 7 * 24 * time.Hour, "week": 7 * 24 * time.Hour,
}

// parseDuration reads 1m30s, or PostgreSQL interval text: 2 hours, 1 day 02:03:04.
func parseDuration(text string) (time.Duration, error) {
	if d, err := time.ParseDuration(strings.TrimSpace(text)); err == nil && (d == 0 || !isNumber(text)) {
		return d, nil
	}
	bad := fmt.Errorf("must be a duration like 1m30s or '2 minutes' (got %q)", text)
	if isNumber(text) {
		return 0, fmt.Errorf("needs a unit: %ss or %sms?", text, text)
	}
	var total time.Duration
	words := strings.Fields(strings.ToLower(text))
	for i := 0; i < len(words); i++ {
		if strings.Contains(words[i], ":") {
			d, ok := parseClock(words[i])
			if !ok {
				return 0, bad
			}
			total += d
			continue
		}
		number, unit := splitUnit(words[i])
		if unit == "" && i+1 < len(words) {
			i++
			unit = words[i]
		}
		n, err := strconv.ParseFloat(number, 64)
		length, ok := intervalUnits[unit]
		if !ok {
			length, ok = intervalUnits[strings.TrimSuffix(unit, "s")]
		}
		if err != nil || !ok || n*float64(length) > float64(1<<62) || n*float64(length) < -float64(1<<62) {
			return 0, bad
		}
		total += time.Duration(n * float64(length))
	}
	if len(words) == 0 {
		return 0, bad
	}
	return total, nil
}

// isNumber reports whether text is a bare number.
func isNumber(text string) bool {
	_, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	return err == nil
}

// splitUnit cuts "5min" into number and unit.
func splitUnit(word string) (number, unit string) {
	i := strings.IndexFunc(word, func(r rune) bool { return r >= 'a' && r <= 'z' })
	if i < 0 {
		return word, ""
	}
	return word[:i], word[i:]
}

// parseClock reads hh:mm or hh:mm:ss.fraction.
func parseClock(word string) (time.Duration, bool) {
	parts := strings.Split(word, ":")
	if len(parts) != 2 && len(parts) != 3 {
		return 0, false
	}
	var total float64
	for i, part := range parts {
		n, err := strconv.ParseFloat(part, 64)
		if err != nil || n < 0 || (i > 0 && n >= 60) || n > 1e6 {
			return 0, false
		}
		total = total*60 + n
	}
	if len(parts) == 2 {
		total *= 60
	}
	return time.Duration(total * float64(time.Second)), true
}

// didYouMean finds the candidate that was probably meant, or the empty text.
func didYouMean(word string, candidates []string) string {
	if len(word) > 64 {
		return ""
	}
	best, bestDistance := "", 1+max(len(word), 3)/3
	for _, c := range candidates {
		if d := distance(word, c); d < bestDistance || (d == bestDistance && best == "") {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the number of edits between two words; two swapped letters are one edit.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// isSecret reports whether the value of a key must never be shown.
func isSecret(key string) bool { return slices.Contains([]string{"password", "secret"}, key) }
