package pgqsql_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A conformance script is a text of blocks, separated by blank lines. A block is, in this order:
//
//	# comment                  any number of lines
//	session NAME               from here on use this connection; made at first use; the first one is called main
//	role NAME                  set role on it; role none goes back
//	SQL                        one or more statements, sent as one simple query
//	----
//	expected result
//	---- extension: REASON     only where the C extension answers something else; the reason is mandatory
//	expected result of the C extension
//
// A block may also be comments and directives only. The result is one line per row of every statement that returns
// rows: columns joined by '|', null as ∅, line ends inside a value as \n, a row that would be an empty line as "".
// An error ends the block with ERROR, or ERROR and the SQLSTATE where the script pins it. Sessions begin in
// autocommit, with an empty search_path and time zone UTC.

const (
	nullText       = "∅"
	emptyText      = `""`
	separator      = "----"
	extensionPart  = "---- extension:"
	unexplained    = "UNEXPLAINED"
	blockTimeLimit = time.Minute
)

// script is one conformance file.
type script struct {
	path   string
	blocks []block
}

// block is one step of a script.
type block struct {
	line    int      // of its first SQL line
	head    []string // comments and directives as written
	session string
	role    string
	sql     string
	want    []string

	differs bool // there is a part for the extension
	reason  string
	wantExt []string
}

// expected is what a run must give.
func (b block) expected(extension bool) []string {
	if extension && b.differs {
		return b.wantExt
	}
	return b.want
}

// parseScript reads a script.
func parseScript(path, text string) (script, error) {
	s := script{path: path}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i := 0; i < len(lines); {
		if lines[i] == "" {
			i++
			continue
		}
		end := i
		for end < len(lines) && lines[end] != "" {
			end++
		}
		b, err := parseBlock(lines[i:end], i+1)
		if err != nil {
			return s, fmt.Errorf("%s:%w", path, err)
		}
		s.blocks = append(s.blocks, b)
		i = end
	}
	return s, nil
}

// parseBlock reads the lines of one block; first is the number of the first one.
func parseBlock(lines []string, first int) (block, error) {
	var b block
	i := 0
	for ; i < len(lines); i++ {
		word, name, _ := strings.Cut(lines[i], " ")
		switch {
		case strings.HasPrefix(lines[i], "#"):
		case word == "session" && name != "":
			b.session = name
		case word == "role" && name != "":
			b.role = name
		default:
			goto body
		}
		b.head = append(b.head, lines[i])
	}
body:
	b.line = first + i
	rest := lines[i:]
	if len(rest) == 0 {
		return b, nil
	}
	at := slices.Index(rest, separator)
	if at <= 0 {
		return b, fmt.Errorf("%d: block needs SQL, a line %s and the expected result", b.line, separator)
	}
	b.sql = strings.Join(rest[:at], "\n")
	b.want = rest[at+1:]
	isExt := func(line string) bool { return strings.HasPrefix(line, separator) }
	if ext := slices.IndexFunc(b.want, isExt); ext >= 0 {
		reason, ok := strings.CutPrefix(b.want[ext], extensionPart)
		b.reason = strings.TrimSpace(reason)
		b.differs, b.want, b.wantExt = true, b.want[:ext], b.want[ext+1:]
		if !ok || b.reason == "" || b.reason == unexplained || slices.ContainsFunc(b.wantExt, isExt) {
			return b, fmt.Errorf("%d: a second expected part is introduced once, by \"%s why it differs\"", b.line, extensionPart)
		}
		if slices.Equal(b.want, b.wantExt) {
			return b, fmt.Errorf("%d: the part for the extension is no different", b.line)
		}
	}
	return b, nil
}

// text writes the script back.
func (s script) text() string {
	var out strings.Builder
	for i, b := range s.blocks {
		if i > 0 {
			out.WriteString("\n")
		}
		lines := slices.Clone(b.head)
		if b.sql != "" {
			lines = append(lines, b.sql, separator)
			lines = append(lines, b.want...)
		}
		if b.differs {
			lines = append(lines, extensionPart+" "+b.reason)
			lines = append(lines, b.wantExt...)
		}
		out.WriteString(strings.Join(lines, "\n") + "\n")
	}
	return out.String()
}

// player runs scripts on one database.
type player struct {
	connect func() *pgx.Conn
	conns   map[string]*pgx.Conn
	current string
}

// newPlayer makes a player whose connections come from connect.
func newPlayer(connect func() *pgx.Conn) *player {
	return &player{connect: connect, conns: map[string]*pgx.Conn{}, current: "main"}
}

// play runs all blocks and returns what each gave.
func (p *player) play(ctx context.Context, s script) ([][]string, error) {
	var results [][]string
	for _, b := range s.blocks {
		got, err := p.playBlock(ctx, b)
		if err != nil {
			return results, fmt.Errorf("%s:%d: %w", s.path, b.line, err)
		}
		results = append(results, got)
	}
	return results, nil
}

// playBlock runs one block. Errors of its SQL are part of the result.
func (p *player) playBlock(ctx context.Context, b block) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, blockTimeLimit)
	defer cancel()
	if b.session != "" {
		p.current = b.session
	}
	conn := p.conns[p.current]
	if conn == nil {
		conn = p.connect()
		p.conns[p.current] = conn
		if _, err := conn.Exec(ctx, "set timezone = 'UTC'"); err != nil {
			return nil, err
		}
	}
	switch b.role {
	case "":
	case "none":
		if _, err := conn.Exec(ctx, "reset role"); err != nil {
			return nil, err
		}
	default:
		if _, err := conn.Exec(ctx, "set role "+pgx.Identifier{b.role}.Sanitize()); err != nil {
			return nil, err
		}
	}
	if b.sql == "" {
		return nil, nil
	}
	return simpleQuery(ctx, conn.PgConn(), b.sql)
}

// simpleQuery sends SQL by the simple protocol and renders what comes back.
func simpleQuery(ctx context.Context, conn *pgconn.PgConn, sql string) ([]string, error) {
	var lines []string
	results := conn.Exec(ctx, sql)
	for results.NextResult() {
		reader := results.ResultReader()
		for reader.NextRow() {
			lines = append(lines, renderRow(reader.Values()))
		}
		_, _ = reader.Close() // the same error comes from results
	}
	err := results.Close()
	server := new(pgconn.PgError)
	if errors.As(err, &server) {
		return append(lines, "ERROR "+server.Code), nil
	}
	return lines, err
}

// renderRow writes one row as a line.
func renderRow(values [][]byte) string {
	var columns []string
	for _, v := range values {
		if v == nil {
			columns = append(columns, nullText)
			continue
		}
		columns = append(columns, strings.ReplaceAll(string(v), "\n", `\n`))
	}
	if line := strings.Join(columns, "|"); line != "" {
		return line
	}
	return emptyText
}

// matches compares a result with what is expected: a plain ERROR stands for any.
func matches(got, want []string) bool {
	return slices.EqualFunc(got, want, func(g, w string) bool {
		return g == w || w == "ERROR" && strings.HasPrefix(g, "ERROR ")
	})
}

// failures compares a whole run and explains each block that differs.
func (s script) failures(results [][]string, extension bool) []string {
	var all []string
	for i, got := range results {
		b := s.blocks[i]
		if want := b.expected(extension); !matches(got, want) {
			all = append(all, fmt.Sprintf("%s:%d:\n%s\ngot:\n%s\nwant:\n%s", s.path, b.line, indent(b.sql),
				indent(strings.Join(got, "\n")), indent(strings.Join(want, "\n"))))
		}
	}
	return all
}

// rewrite takes results for expectations. An error keeps its form, pinned or not. A difference of the extension that
// nobody explained is marked so that the script does not parse until somebody does.
func (s script) rewrite(ours, ext [][]string) script {
	out := script{path: s.path}
	for i, b := range s.blocks {
		if i < len(ours) {
			b.want = keepErrorForm(ours[i], b.want)
		}
		if i < len(ext) {
			b.wantExt = keepErrorForm(ext[i], b.expected(true))
			same := matches(ext[i], b.want)
			b.differs = !same
			if b.differs && b.reason == "" {
				b.reason = unexplained
			}
		}
		out.blocks = append(out.blocks, b)
	}
	return out
}

// keepErrorForm drops the SQLSTATE of a result where the old expectation did not pin it.
func keepErrorForm(got, old []string) []string {
	lines := slices.Clone(got)
	for i, line := range lines {
		pinned := slices.ContainsFunc(old, func(w string) bool { return strings.HasPrefix(w, "ERROR ") })
		if strings.HasPrefix(line, "ERROR ") && !pinned {
			lines[i] = "ERROR"
		}
	}
	return lines
}

// indent sets a text off in a message.
func indent(text string) string {
	return "    " + strings.ReplaceAll(text, "\n", "\n    ")
}

// readScript reads and parses a file.
func readScript(t testing.TB, path string) script {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := parseScript(path, string(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
