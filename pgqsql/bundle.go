package pgqsql

import (
	"fmt"
	"strings"
)

// Bundle returns the schemas, and what they need, as one script for psql: none means all. The script is one
// transaction, may be run again and again, refuses what Install refuses, and leaves the same records, so that Inspect
// and Install take the result for their own. Unlike Install it applies all code every time.
func Bundle(schemas ...string) (string, error) {
	sources, err := shipped()
	if err != nil {
		return "", err
	}
	return bundle(sources, schemas)
}

// bundle is Bundle for any tree.
func bundle(sources []source, schemas []string) (string, error) {
	sources, err := choose(sources, schemas)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(bundleHead(sources))
	for _, src := range sources {
		b.WriteString(bundleSchema(src))
	}
	b.WriteString("\ncommit;\n")
	return b.String(), nil
}

// bundleHead is everything that comes before the first file.
func bundleHead(sources []source) string {
	var names []string
	for _, src := range sources {
		names = append(names, src.name)
	}
	return fmt.Sprintf(`-- Schemas of skyd for psql: %s.
-- Generated from the files under pgqsql/sql; do not edit. It may be run again.
\set ON_ERROR_STOP on

begin;
%s

select pg_catalog.pg_advisory_xact_lock(%d);

do $skyd$
begin
    if pg_catalog.current_setting('server_version_num')::int4 < %d then
        raise exception 'the server runs PostgreSQL %%; skyd needs %d or newer',
            pg_catalog.current_setting('server_version');
    end if;
end
$skyd$;
`, strings.Join(names, ", "), strings.TrimSpace(settingsSQL), installLock, MinServerVersion, MinServerVersion/10000)
}

// bundleGuard refuses a schema that is not ours and notes whether it is to be installed afresh in the setting
// skyd.fresh_<schema>. The query is the one of Inspect.
const bundleGuard = `
do $skyd$
declare
    v_recorded  boolean := false;
    v_state     record;
begin
    select * into v_state from (%[2]s) as s (name, present, role, mine, may_create, extension, filled, original);
    if v_state.extension <> '' then
        raise exception 'schema %[1]s belongs to extension %%: leave it alone, skyd runs on it', v_state.extension;
    end if;
    if pg_catalog.to_regclass('skyd.schema_file') is not null then
        execute $$ select exists (select from skyd.schema_file where schema_name = '%[1]s' and path = 'tables.sql') $$
        into v_recorded;
    end if;
    if v_state.filled and not v_recorded then
        raise exception 'schema %[1]s is there and is not from skyd; it belongs to role %%', v_state.role;
    end if;
    perform pg_catalog.set_config('skyd.fresh_%[1]s', (not v_state.filled)::text, true);
end
$skyd$;
`

// bundleGuestGuard notes whether a guest is to be installed afresh. The guard of its host came before.
const bundleGuestGuard = `
do $skyd$
begin
    perform pg_catalog.set_config('skyd.fresh_%[1]s', (not exists (
        select from skyd.schema_function f
        where f.schema_name = '%[1]s' and pg_catalog.to_regprocedure(f.signature) is not null))::text, true);
end
$skyd$;
`

// bundleSchema is one schema of the bundle.
func bundleSchema(src source) string {
	var b, records strings.Builder
	fmt.Fprintf(&b, "\n-- Schema %s\n", src.name)
	if src.inside != "" {
		fmt.Fprintf(&b, bundleGuestGuard, src.name, src.inside)
	} else {
		fmt.Fprintf(&b, bundleGuard, src.name, strings.ReplaceAll(strings.TrimSpace(schemaStateSQL), "$1",
			literal("{"+src.name+"}")))
	}
	if src.name != ledger {
		records.WriteString(bundleForget(src.name))
	}
	for _, f := range src.files {
		record := bundleRecord(f)
		fmt.Fprintf(&b, "\n-- File %s\n", f.name())
		switch f.kind {
		case codeFile:
			b.WriteString(strings.TrimSpace(f.text) + "\n")
		case tablesFile:
			b.WriteString(bundleOnce(src.name, f, "v_fresh"))
		case upgradeFile:
			b.WriteString(bundleOnce(src.name, f, "not v_fresh and not v_recorded"))
		}
		if src.name == ledger {
			records.WriteString(record) // the tables of the records may not be there yet
			continue
		}
		b.WriteString(records.String() + record)
		records.Reset()
	}
	return b.String() + records.String()
}

// bundleOnce runs a file of shape under a condition.
func bundleOnce(schema string, f file, condition string) string {
	tag := "$shape$"
	for i := 1; strings.Contains(f.text, tag); i++ {
		tag = fmt.Sprintf("$shape%d$", i)
	}
	return fmt.Sprintf(`do $skyd$
declare
    v_fresh     boolean := pg_catalog.current_setting('skyd.fresh_%[1]s')::boolean;
    v_recorded  boolean := false;
begin
    if not v_fresh then
        v_recorded := exists (select from skyd.schema_file where schema_name = '%[1]s' and path = '%[2]s');
    end if;
    if %[3]s then
        execute %[4]s
%[5]s
%[4]s;
    end if;
end
$skyd$;
`, schema, f.path, condition, tag, strings.TrimSpace(f.text))
}

// bundleForget removes records left over from a schema that was dropped.
func bundleForget(schema string) string {
	fresh := fmt.Sprintf(" and pg_catalog.current_setting('skyd.fresh_%s')::boolean;\n", schema)
	return bundleFill(forgetFilesSQL, schema) + fresh + bundleFill(forgetFunctionsSQL, schema) + fresh
}

// bundleRecord is the record of one file; what comes out differs from Install's only in the version of skyd. Shape that
// was not run keeps the record of what was.
func bundleRecord(f file) string {
	insert := recordFileSQL
	if f.kind != codeFile {
		insert = recordOnceSQL
	}
	b := "\n" + bundleFill(insert, f.schema, f.path, f.sum, "bundle") + ";\n"
	if name := f.function(); name != "" {
		b += bundleFill(forgetFileFunctionsSQL, f.schema, f.path) + ";\n"
		b += bundleFill(recordFunctionsSQL, f.schema, f.path, name, f.namespace) + ";\n"
	}
	return b
}

// bundleFill puts literals in the place of parameters.
func bundleFill(sql string, values ...string) string {
	for i, v := range values {
		sql = strings.ReplaceAll(sql, fmt.Sprintf("$%d::text", i+1), literal(v))
	}
	return sql
}
