package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgqsql"
)

// report reads a JSON result.
func (r result) report(t testing.TB) pgqsql.Report {
	t.Helper()
	var report pgqsql.Report
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.code != exitOK {
		t.Fatalf("got %+v (%v), want a report", r, err)
	}
	return report
}

// says checks that a run ended with a code and that its output has all of the words.
func (r result) says(t testing.TB, code int, words ...string) {
	t.Helper()
	for _, w := range words {
		if r.code != code || !strings.Contains(r.stdout+r.stderr, w) {
			t.Errorf("got %+v, want exit %d and %q", r, code, w)
		}
	}
}

func TestSchema_LifeOfAnInstall(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	schema := func(args ...string) result { return skyd(t, append([]string{"schema", "--db", db.DSN}, args...)...) }

	schema("status").says(t, exitOK, "database "+db.Name+", PostgreSQL ", "pgq        missing", "not installed")
	schema("upgrade").says(t, exitMissing, "no schema of skyd in database "+db.Name, "skyd schema install")
	schema("upgrade", "--only", "pgq").says(t, exitMissing, "schema pgq is not installed")
	schema("install", "--dry-run").says(t, exitOK, "files to apply: ", "missing")
	if r := schema("install", "-o", "json").report(t); !r.Changed {
		t.Errorf("install: got %+v, want a change", r)
	}
	if r := schema("install", "-o", "json").report(t); r.Changed {
		t.Errorf("second install: got %+v, want no change", r)
	}
	schema("install").says(t, exitOK, "up to date", "nothing to do")
	schema("upgrade").says(t, exitOK, "up to date", "nothing to do")
	schema("status").says(t, exitOK, "up to date", "3.5")
	schema("status", "-o", "yaml").says(t, exitOK, "changed: false", "- name: pgq", "owner: skyd")

	if _, err := db.Conn(t).Exec(t.Context(), "alter function pgq.version() cost 7"); err != nil {
		t.Fatal(err)
	}
	schema("status").says(t, exitOK, "files to apply: 0, to repair: 1", "changed in the database: pgq/functions/version.sql")
	schema("upgrade", "--dry-run").says(t, exitOK, "files to apply: 2")
	schema("upgrade").says(t, exitOK, "files applied: 2")
	schema("status").says(t, exitOK, "up to date")
}

func TestSchema_RefusalsExit5WithARemedy(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	if _, err := db.Conn(t).Exec(t.Context(), "create schema pgq create table mine (id int4)"); err != nil {
		t.Fatal(err)
	}
	skyd(t, "schema", "install", "--db", db.DSN).says(t, exitRefused, "schema pgq in database "+db.Name+" is not from skyd",
		"(rename or drop it, or install into another database)")
	skyd(t, "schema", "install", "--db", db.DSN, "-o", "json").says(t, exitRefused, `"code":"refused"`, `"hint":"rename`)
	skyd(t, "schema", "status", "--db", db.DSN).says(t, exitOK, "foreign")

	other := pgtest.Empty(t)
	skyd(t, "schema", "install", "--db", other.DSNAs(other.Role(t))).says(t, exitRefused, "may not create schemas", "grant create on database")
}

func TestSchema_LeavesTheExtensionAlone(t *testing.T) {
	t.Parallel()
	db := pgtest.Extension(t)
	skyd(t, "schema", "install", "--db", db.DSN, "--only", "pgq").says(t, exitOK, "extension pgq 3.", "left alone", "nothing to do")
	skyd(t, "schema", "install", "--db", db.DSN).says(t, exitOK, "extension pgq 3.", "left alone", "pgq_coop   skyd")
	skyd(t, "schema", "status", "--db", db.DSN).says(t, exitOK, "extension pgq 3.", "used as it is")
}

func TestSchema_PrintIsTheBundle(t *testing.T) {
	t.Parallel()
	want, err := pgqsql.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	if r := skyd(t, "schema", "print"); r.code != exitOK || r.stdout != want {
		t.Errorf("got %d and %d bytes, want the bundle of %d bytes", r.code, len(r.stdout), len(want))
	}
	skyd(t, "schema", "print", "--only", "pgq").says(t, exitOK, "create schema pgq")
}

func TestSchema_TakesTheOriginalOver(t *testing.T) {
	t.Parallel()
	db := pgtest.Extension(t)
	schema := func(args ...string) result { return skyd(t, append([]string{"schema", "--db", db.DSN}, args...)...) }
	schema("upgrade").says(t, exitOK, "left alone", "nothing to do")
	schema("upgrade", "--from-extension", "--dry-run").says(t, exitOK, "to be taken over from extension pgq 3.", "pgq: take ", "pgq: drop extension pgq")
	schema("status").says(t, exitOK, "extension pgq 3.", "used as it is")
	if r := schema("upgrade", "--from-extension", "-o", "json").report(t); !r.Changed {
		t.Errorf("got %+v, want a change", r)
	}
	schema("upgrade", "--from-extension").says(t, exitOK, "up to date", "nothing to do")

	plain := pgtest.Empty(t)
	if _, err := plain.Conn(t).Exec(t.Context(), `create schema pgq;
		create table pgq.queue (queue_switch_step2 bigint, queue_data_pfx text, x integer not null);
		create table pgq.subscription (sub_last_tick bigint); create table pgq.tick (tick_snapshot txid_snapshot)`); err != nil {
		t.Fatal(err)
	}
	skyd(t, "schema", "install", "--db", plain.DSN).says(t, exitRefused, "plain-SQL install of the original PgQ", "skyd schema upgrade")
	skyd(t, "schema", "upgrade", "--db", plain.DSN).says(t, exitRefused, "has a column queue.x", "drop not null")
}

func TestSchema_HardensTheExtension(t *testing.T) {
	t.Parallel()
	db := pgtest.Extension(t)
	harden := func(args ...string) result {
		return skyd(t, append([]string{"schema", "harden", "--db", db.DSN}, args...)...)
	}
	harden("--dry-run").says(t, exitOK, "pgq.insert_event(text,text,text,text,text,text,text)", "search_path = pg_catalog, \"pgq\", pg_temp", "to be changed")
	harden("-o", "json").says(t, exitOK, `"changed": true`, `"search_path":`)
	harden("-o", "json").says(t, exitOK, `"changed": false`)
	harden().says(t, exitOK, "nothing to do, functions looked at: ")
	skyd(t, "schema", "harden", "--db", db.DSNAs(db.Role(t))).says(t, exitOK, "nothing to do")

	other := pgtest.Extension(t)
	skyd(t, "schema", "harden", "--db", other.DSNAs(other.Role(t))).says(t, exitRefused, "may not change them", "connect as a member")
}
