package pgqsql_test

import (
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgqsql"
)

// A producer's own now() runs as the owner of the extension, until the functions are pinned.
func TestHarden_StopsForeignCode(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"pgq_writer", "pgq_reader"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			if who := attack(t, extension(t, "harden"), role); who == "" {
				t.Error("the attack does no harm to the extension as it is: it proves nothing")
			}
			db := extension(t, "harden")
			mustHarden(t, db.Conn(t), false)
			if who := attack(t, db, role); who != "" {
				t.Errorf("code of a role with %s still runs as the owner: %s", role, who)
			}
		})
	}
}

func mustHarden(t *testing.T, conn *pgx.Conn, dryRun bool) pgqsql.Hardening {
	t.Helper()
	h, err := pgqsql.Harden(t.Context(), conn, dryRun)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// definers counts functions that run as their owner with the caller's search path.
const definers = `select count(*) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
	where n.nspname ~ '^(pgq|pgq_.*|londiste)$' and p.prosecdef and p.proconfig is null`

func TestHarden_PinsEveryDefiner(t *testing.T) {
	t.Parallel()
	db := pgtest.Extension(t)
	s := open(t, db)
	s.exec(`create schema londiste; create schema "pgq_node"; create schema other`)
	for _, schema := range []string{"londiste", "pgq_node", "other"} {
		s.exec(`create function ` + schema + `."De.finer x"("we""ird" integer[], text default 'a''b') returns integer as 'select 1' language sql security definer`)
		s.exec(`create procedure ` + schema + `.step() as 'select 1' language sql security definer`)
	}
	if s.text(definers) == "0" {
		t.Fatal("the extension has no unpinned function: the test proves nothing")
	}
	before := s.text(definers)
	dry := mustHarden(t, db.Conn(t), true)
	if !dry.Changed || !dry.DryRun || s.text(definers) != before {
		t.Errorf("dry run: got %+v, want a plan and no change", dry)
	}
	first := mustHarden(t, db.Conn(t), false)
	if !first.Changed || len(first.Functions) != len(dry.Functions) || first.Checked < len(first.Functions) {
		t.Errorf("got %+v, want what the dry run planned", first)
	}
	s.answers(t, [][2]string{
		{definers, "0"},
		{`select count(*) from pg_proc where pronamespace = 'other'::regnamespace and proconfig is not null`, "0"},
		{
			`select string_agg(distinct proconfig::text, ' ' order by proconfig::text) from pg_proc where prosecdef
			and pronamespace in ('londiste'::regnamespace, 'pgq'::regnamespace)`,
			`{"search_path=pg_catalog, londiste, pg_temp"} {"search_path=pg_catalog, pgq, pg_temp"}`,
		},
	})
	second := mustHarden(t, db.Conn(t), false)
	if second.Changed || len(second.Functions) > 0 {
		t.Errorf("second run: got %+v, want no change", second)
	}
}

// A plain-SQL install without roles lets everybody do everything.
func TestHarden_TakesFromEverybodyWhatIsForRoles(t *testing.T) {
	t.Parallel()
	pgtest.DB(t) // the roles of PgQ belong to the server
	for name, o := range originals() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := o.install(t)
			s := open(t, db)
			mustHarden(t, db.Conn(t), false)
			s.answers(t, [][2]string{
				{"select has_function_privilege('pg_monitor', 'pgq.insert_event(text,text,text)', 'execute')", "false"},
				{"select has_function_privilege('pg_monitor', 'pgq.next_batch(text,text)', 'execute')", "false"},
				{"select has_function_privilege('pg_monitor', 'pgq.create_queue(text)', 'execute')", "false"},
				{"select has_function_privilege('pg_monitor', 'pgq.version()', 'execute')", "true"},
				{"select has_function_privilege('pg_monitor', 'pgq.get_queue_info()', 'execute')", "true"},
				{"select has_function_privilege('pgq_writer', 'pgq.insert_event(text,text,text)', 'execute')", "true"},
				{"select has_function_privilege('pgq_writer', 'pgq.next_batch(text,text)', 'execute')", "false"},
				{"select has_function_privilege('pgq_reader', 'pgq.next_batch(text,text)', 'execute')", "true"},
				{"select has_function_privilege('pgq_admin', 'pgq.ticker()', 'execute')", "true"},
			})
			if again := mustHarden(t, db.Conn(t), false); again.Changed {
				t.Errorf("second run: got %+v, want no change", again)
			}
		})
	}
}

func TestHarden_LeavesOursAlone(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	if h := mustHarden(t, db.Conn(t), false); h.Changed {
		t.Errorf("got %+v, want nothing to do", h)
	}
	other := pgtest.Extension(t)
	mustHarden(t, other.Conn(t), false)
	if _, err := pgqsql.Install(t.Context(), other.Conn(t), pgqsql.Options{}); err != nil {
		t.Fatal(err)
	}
	if h := mustHarden(t, other.Conn(t), false); h.Changed {
		t.Errorf("beside the extension: got %+v, want nothing to do", h)
	}
}

func TestHarden_NeedsTheOwner(t *testing.T) {
	t.Parallel()
	db := pgtest.Extension(t)
	_, err := pgqsql.Harden(t.Context(), db.ConnAs(t, db.Role(t)), true)
	refused(t, err, "may not change them", "connect as a member")
}

// The contract's answers are the same on a hardened extension.
func TestHarden_KeepsTheContract(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/conformance/*.test")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no conformance scripts: %v", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			s, db := readScript(t, path), extension(t, filepath.Base(path))
			mustHarden(t, db.Conn(t), false)
			for _, f := range s.failures(playOn(t, db, s), true) {
				t.Error(f)
			}
		})
	}
}
