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

	schema("status").says(t, exitOK, "database "+db.Name+", PostgreSQL ", "pgq       missing", "not installed")
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
	skyd(t, "schema", "install", "--db", db.DSN).says(t, exitOK, "extension pgq 3.", "left alone", "pgq_coop  skyd")
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
