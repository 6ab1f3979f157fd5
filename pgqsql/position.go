package pgqsql

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
)

// FileError is a server error at a place in a SQL file. It wraps the *pgconn.PgError.
type FileError struct {
	File   string // pgq/functions/next_batch.sql
	Line   int    // 1 is the first; 0 when the server gave no clue
	Column int    // in characters; 0 when only the line is known
	Err    error
}

// Error implements error: file:line:column: message (SQLSTATE).
func (e *FileError) Error() string {
	place := e.File
	if e.Line > 0 {
		place += fmt.Sprintf(":%d", e.Line)
	}
	if e.Column > 0 {
		place += fmt.Sprintf(":%d", e.Column)
	}
	server := new(pgconn.PgError)
	if !errors.As(e.Err, &server) {
		return fmt.Sprintf("%s: %v", place, e.Err)
	}
	text := fmt.Sprintf("%s: %s (%s)", place, server.Message, server.Code)
	if server.Hint != "" {
		text += "; " + server.Hint
	}
	return text
}

// Unwrap gives errors.Is and errors.As the server error.
func (e *FileError) Unwrap() error { return e.Err }

// inlineLine is the context of an error inside a DO block.
var inlineLine = regexp.MustCompile(`PL/pgSQL function inline_code_block line (\d+)`)

// locate turns an error of a file that was sent whole into a FileError. done is the number of its statements that
// were completed before.
func locate(f file, err error, done int) error {
	server := new(pgconn.PgError)
	if !errors.As(err, &server) {
		return fmt.Errorf("apply %s: %w", f.name(), err)
	}
	at := &FileError{File: f.name(), Err: err}
	at.Line, at.Column = place(f.text, server, done)
	return at
}

// place finds line and column of a server error. The server counts characters through the whole text it was sent; an
// error inside a function body or a DO block may be counted from the start of that body or of one statement in it
// instead. An error without any position is placed at the start of the statement that failed.
func place(text string, server *pgconn.PgError, done int) (line, column int) {
	starts := statements(text)
	from := 0
	if done < len(starts) {
		from = starts[done]
	}
	if server.Position > 0 {
		return lineColumn(text, runeOffset(text, int(server.Position)-1))
	}
	if server.InternalPosition > 0 && server.InternalQuery != "" {
		if i := strings.Index(text[from:], server.InternalQuery); i >= 0 {
			return lineColumn(text, from+i+runeOffset(server.InternalQuery, int(server.InternalPosition)-1))
		}
	}
	if done >= len(starts) {
		return 0, 0
	}
	line, column = lineColumn(text, from)
	if m := inlineLine.FindStringSubmatch(server.Where); m != nil {
		if body := strings.IndexByte(text[from:], '$'); body >= 0 {
			first, _ := lineColumn(text, from+body)
			inside, _ := strconv.Atoi(m[1])
			return first + inside - 1, 0
		}
	}
	return line, column
}

// runeOffset is the byte offset of the n-th character.
func runeOffset(text string, n int) int {
	for i := range text {
		if n == 0 {
			return i
		}
		n--
	}
	return len(text)
}

// lineColumn counts from 1, columns in characters.
func lineColumn(text string, offset int) (line, column int) {
	before := text[:min(offset, len(text))]
	line = strings.Count(before, "\n") + 1
	return line, utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
}

// statements returns the byte offset of the first token of each statement of a script. It knows quotes, dollar quotes
// and comments, which is all that can hide a semicolon outside of SQL-standard function bodies (not used here).
func statements(text string) []int {
	var starts []int
	open := false
	for i := 0; i < len(text); {
		n := skipBlank(text[i:])
		if n > 0 {
			i += n
			continue
		}
		if text[i] == ';' {
			open = false
			i++
			continue
		}
		if !open {
			starts = append(starts, i)
			open = true
		}
		i += tokenLength(text[i:])
	}
	return starts
}

// skipBlank is the length of the white space or comment that text begins with.
func skipBlank(text string) int {
	switch {
	case strings.ContainsRune(" \t\r\n\f", rune(text[0])):
		return 1
	case strings.HasPrefix(text, "--"):
		if end := strings.IndexByte(text, '\n'); end >= 0 {
			return end + 1
		}
		return len(text)
	case strings.HasPrefix(text, "/*"):
		return blockComment(text)
	}
	return 0
}

// blockComment is the length of a comment, which may hold others.
func blockComment(text string) int {
	depth := 0
	for i := 0; i+1 < len(text); i++ {
		switch text[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return len(text)
}

var (
	dollarTag = regexp.MustCompile(`^\$([A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$`)
	wordToken = regexp.MustCompile(`^[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*`)
)

// tokenLength is the length of the token that text begins with.
func tokenLength(text string) int {
	if strings.HasPrefix(text, "E'") || strings.HasPrefix(text, "e'") {
		return 1 + quoted(text[1:], true)
	}
	switch text[0] {
	case '\'', '"':
		return quoted(text, false)
	case '$':
		if tag := dollarTag.FindString(text); tag != "" {
			if end := strings.Index(text[len(tag):], tag); end >= 0 {
				return end + 2*len(tag)
			}
			return len(text)
		}
	}
	if word := wordToken.FindString(text); word != "" {
		return len(word)
	}
	return 1
}

// quoted is the length of a quoted token; doubled quotes continue it, backslashes only when they escape.
func quoted(text string, escapes bool) int {
	for i := 1; i < len(text); i++ {
		if escapes && text[i] == '\\' {
			i++
		} else if text[i] == text[0] {
			if i+1 < len(text) && text[i+1] == text[0] {
				i++
				continue
			}
			return i + 1
		}
	}
	return len(text)
}
