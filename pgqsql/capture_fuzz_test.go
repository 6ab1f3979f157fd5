package pgqsql_test

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
)

// oddTable has columns whose names and types need care in each of the formats.
const oddTable = `create table public."Odd t" (id integer primary key, v text, "a&b=c %+" text, "Ü""'\" varchar(4000), c char(5));
	create table public.copy (like public."Odd t")`

// What the capture triggers write can be read back to the row, whatever is in it: url encoding by the rules of forms, JSON by
// a JSON parser, SQL by running it.
func FuzzCaptureTriggers(f *testing.F) {
	for _, s := range []string{"", "a", "%", "+ &=", "'\\'", "\\", "\"", "\n\r\t\b\f\x01\x7f", "ü\U0001F600", "null", "NULL", " x ", "<>&\u2028", "~*_.-"} {
		f.Add(s, s+"x", byte(0))
		f.Add("x"+s, s, byte(2))
	}
	db := pgtest.DB(f)
	conn := db.Conn(f)
	if _, err := conn.Exec(f.Context(), oddTable+`; select pgq.create_queue('url'), pgq.create_queue('json'), pgq.create_queue('sql');
		select pgq.capture_table('public."Odd t"', 'url', 'logutriga'), pgq.capture_table('public."Odd t"', 'json', 'jsontriga'),
		       pgq.capture_table('public."Odd t"', 'sql', 'sqltriga')`, pgx.QueryExecModeSimpleProtocol); err != nil {
		f.Fatal(err)
	}
	columns := []string{"id", "v", "a&b=c %+", `Ü"'\`, "c"}
	f.Fuzz(func(t *testing.T, a, b string, nulls byte) {
		if len(a)+len(b) > 3000 || !utf8.ValidString(a) || !utf8.ValidString(b) || strings.ContainsRune(a+b, 0) {
			return
		}
		ctx := t.Context()
		values := []*string{new("1"), &a, &b, &a, new("xy ")}
		for i := range 4 {
			if nulls>>i&1 == 1 {
				values[i+1] = nil
			}
		}
		tx, err := conn.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
		if _, err := tx.Exec(ctx, `insert into public."Odd t" values (1, $1, $2, $3, $4)`, values[1], values[2], values[3], values[4]); err != nil {
			t.Fatal(err)
		}
		var form, object, statement string
		if err := tx.QueryRow(ctx, `select u.ev_data, j.ev_data, s.ev_data from pgq.event_1 u, pgq.event_2 j, pgq.event_3 s`).Scan(&form, &object, &statement); err != nil {
			t.Fatal(err)
		}
		if values[4] != nil {
			values[4] = new("xy   ") // char(5) keeps its blanks
		}
		fromForm, fromJSON := decodeForm(t, form), map[string]any{}
		if err := json.Unmarshal([]byte(object), &fromJSON); err != nil {
			t.Fatalf("%q: %v", object, err)
		}
		if len(fromForm) != len(columns) || len(fromJSON) != len(columns) {
			t.Errorf("%d columns of %q, %d of %q, want %d", len(fromForm), form, len(fromJSON), object, len(columns))
		}
		for i, name := range columns {
			if got, there := fromForm[name]; !there || (got == nil) != (values[i] == nil) || got != nil && *got != *values[i] {
				t.Errorf("url, column %s: %q from %q", name, value(got), form)
			}
			if got, there := fromJSON[name]; i > 0 && (!there || (got == nil) != (values[i] == nil) || got != nil && got != *values[i]) {
				t.Errorf("json, column %s: %v from %q", name, got, object)
			}
		}
		var same bool
		if _, err := tx.Exec(ctx, "insert into public.copy "+statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		if err := tx.QueryRow(ctx, `select o::text = k::text from public."Odd t" o, public.copy k`).Scan(&same); err != nil || !same {
			t.Errorf("sql: %s gives another row, %v", statement, err)
		}
	})
}

func value(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}

// decodeForm reads what logutriga writes: a name without = is null.
func decodeForm(t *testing.T, form string) map[string]*string {
	t.Helper()
	row := map[string]*string{}
	for pair := range strings.SplitSeq(form, "&") {
		name, text, there := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			t.Fatalf("%q: %v", form, err)
		}
		row[name] = nil
		if there {
			text, err := url.QueryUnescape(text)
			if err != nil {
				t.Fatalf("%q: %v", form, err)
			}
			row[name] = &text
		}
	}
	return row
}

// An argument that pgq.capture_table takes gives a trigger that knows it: no write of the table fails for it. Expressions
// are SQL of the caller, and may.
func FuzzCaptureArguments(f *testing.F) {
	for _, s := range []string{
		"", "backup", "deny", "SKIP", "skip", "ignore=v", "ignore=", "ignore=v,,nope", "ignore= v , c ", "pkey=id", "pkey=id,v", "pkey=nope",
		"pkey=", "pkey= id , c", "pkey=id,", "IGNORE=v", "ev_extra5=1", "ev_type", "backup ", " backup", "backup=1", "pkey=ID", "ignore=\"v\"", "pkey=id\n",
	} {
		f.Add(s, "backup")
	}
	db := pgtest.DB(f)
	conn := db.Conn(f)
	if _, err := conn.Exec(f.Context(), oddTable+`; select pgq.create_queue('q')`, pgx.QueryExecModeSimpleProtocol); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if !utf8.ValidString(a) || !utf8.ValidString(b) || strings.ContainsRune(a+b, 0) || strings.HasPrefix(a, "when=") || strings.HasPrefix(a, "ev_") ||
			strings.HasPrefix(b, "when=") || strings.HasPrefix(b, "ev_") {
			return
		}
		ctx := t.Context()
		tx, err := conn.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
		if _, err := tx.Exec(ctx, `select pgq.capture_table('public."Odd t"', 'q', i_args => $1)`, []string{a, b}); err != nil {
			if state := sqlState(err); state != "22023" && state != "42703" {
				t.Errorf("%q, %q: refused with %v", a, b, err)
			}
			return
		}
		for _, sql := range []string{`insert into public."Odd t" values (1, 'x')`, `update public."Odd t" set "a&b=c %+" = 'y'`, `delete from public."Odd t"`, `truncate public."Odd t"`} {
			_, err := tx.Exec(ctx, sql)
			if denied := a == "deny" || b == "deny"; denied != (err != nil) {
				t.Errorf("%q, %q: %s: %v", a, b, sql, err)
			}
			if err != nil {
				return
			}
		}
	})
}
