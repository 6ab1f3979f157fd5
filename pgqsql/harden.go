package pgqsql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Hardening says what Harden did, or in a dry run would do.
type Hardening struct {
	Database  string             `json:"database"`
	Changed   bool               `json:"changed"`
	DryRun    bool               `json:"dry_run,omitempty"`
	Checked   int                `json:"checked"` // functions that were looked at
	Functions []HardenedFunction `json:"functions"`
}

// HardenedFunction is one function that was not safe.
type HardenedFunction struct {
	Schema     string `json:"schema"`
	Function   string `json:"function"`              // with its argument types
	SearchPath string `json:"search_path,omitempty"` // that it runs with from now on
	Role       string `json:"role,omitempty"`        // may execute it from now on in place of everybody
}

// Harden makes the functions of the original's schemas safe, in one transaction: each function that runs with the
// rights of its owner gets a search path of its own, without which a caller can bring code that then runs as the owner;
// and what the contract gives to pgq_reader, pgq_writer or pgq_admin is taken from everybody. Bodies are not touched.
// Schemas that skyd installed are made so from the start and left out. A second run changes nothing.
//
// It must be repeated after an update of the extension and after a restore of a dump, which bring the old functions
// back. Errors: ErrRefused (*RefusedError) when functions belong to another role or a role of PgQ is missing.
func Harden(ctx context.Context, db Beginner, dryRun bool) (Hardening, error) {
	sources, err := shipped()
	if err != nil {
		return Hardening{}, err
	}
	result := Hardening{DryRun: dryRun, Functions: []HardenedFunction{}}
	err = inTransaction(ctx, db, func(tx pgx.Tx) (bool, error) {
		if err := takeLock(ctx, tx, dryRun); err != nil {
			return false, err
		}
		state, err := readState(ctx, tx, sources)
		if err != nil {
			return false, err
		}
		result.Database = state.database
		functions, err := hardenable(ctx, tx, state, sources)
		if err != nil {
			return false, err
		}
		result.Checked = len(functions)
		statements, owners := []string{}, []string{}
		for _, fn := range functions {
			change, sql := fn.harden()
			if len(sql) == 0 {
				continue
			}
			result.Functions = append(result.Functions, change)
			statements = append(statements, sql...)
			if !fn.mine {
				owners = append(owners, fn.owner)
			}
		}
		if err := hardenRefusal(state, owners, result.Functions); err != nil {
			return false, err
		}
		result.Changed = len(statements) > 0
		if dryRun || !result.Changed {
			return false, nil
		}
		_, err = tx.Exec(ctx, strings.Join(statements, ";\n"), pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return false, fmt.Errorf("harden the functions: %w", err)
		}
		return true, nil
	})
	return result, err
}

// hardenedSchemas are the schemas of SkyTools.
func hardenedSchemas() []string {
	return []string{"pgq", "pgq_coop", "pgq_ext", "pgq_node", "londiste"}
}

// hardenRefusal tells what stands in the way.
func hardenRefusal(state databaseState, owners []string, functions []HardenedFunction) error {
	if len(functions) == 0 {
		return nil
	}
	if state.standby {
		return &RefusedError{
			Problem: fmt.Sprintf("database %s is on a standby, which cannot be changed", state.database), Remedy: "connect to the primary",
		}
	}
	if slices.Sort(owners); len(owners) > 0 {
		names := strings.Join(slices.Compact(owners), ", ")
		return &RefusedError{
			Problem: fmt.Sprintf("functions in database %s belong to %s; role %s may not change them", state.database, names, state.role),
			Remedy:  "connect as a member of these roles, or as a superuser",
		}
	}
	var missing []string
	for _, fn := range functions {
		if fn.Role != "" && !state.roles[fn.Role] && !slices.Contains(missing, fn.Role) {
			missing = append(missing, fn.Role)
		}
	}
	if len(missing) > 0 {
		return &RefusedError{
			Problem: fmt.Sprintf("everybody may execute functions in database %s that are for roles which do not exist: %s",
				state.database, strings.Join(missing, ", ")),
			Remedy: "make the roles and grant them to the roles of your programs: " + createRoles(missing),
		}
	}
	return nil
}

// hardenableFunction is a function of a schema that is not ours.
type hardenableFunction struct {
	schema, signature, name, owner string
	mine, pinned, public           bool
}

const hardenableSQL = `
select n.nspname::text, p.oid::pg_catalog.regprocedure::text, p.proname::text, pg_catalog.pg_get_userbyid(p.proowner)::text,
       pg_catalog.pg_has_role(p.proowner, 'USAGE'),
       not p.prosecdef or exists (select from pg_catalog.unnest(p.proconfig) c where c like 'search_path=%'),
       exists (select from pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a
               where a.grantee = 0)
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = any ($1::text[]) and p.prokind in ('f', 'p')
order by 1, 2`

// hardenable reads the functions.
func hardenable(ctx context.Context, tx pgx.Tx, state databaseState, sources []source) ([]hardenableFunction, error) {
	names := slices.DeleteFunc(hardenedSchemas(), func(name string) bool {
		return slices.ContainsFunc(sources, func(s source) bool { return s.name == name && state.schemas[name].owner == Skyd })
	})
	var (
		fn  hardenableFunction
		all []hardenableFunction
	)
	rows, _ := tx.Query(ctx, hardenableSQL, pgx.QueryExecModeExec, names)
	_, err := pgx.ForEachRow(rows, []any{&fn.schema, &fn.signature, &fn.name, &fn.owner, &fn.mine, &fn.pinned, &fn.public},
		func() error { all = append(all, fn); return nil })
	if err != nil {
		return nil, fmt.Errorf("read the functions: %w", err)
	}
	return all, nil
}

// harden gives the statements that a function needs.
func (fn hardenableFunction) harden() (HardenedFunction, []string) {
	var sql []string
	change := HardenedFunction{Schema: fn.schema, Function: fn.signature}
	if !fn.pinned {
		change.SearchPath = "pg_catalog, " + ident(fn.schema) + ", pg_temp"
		sql = append(sql, fmt.Sprintf("alter routine %s set search_path = %s", fn.signature, change.SearchPath))
	}
	if role := contractRole(fn.schema, fn.name); fn.public && role != "" {
		change.Role = role
		sql = append(sql, fmt.Sprintf("revoke execute on routine %s from public", fn.signature),
			fmt.Sprintf("grant execute on routine %s to %s", fn.signature, role))
	}
	return change, sql
}

// contractRole is the role that the contract gives a function to; empty when everybody has it or the contract is
// silent.
func contractRole(schema, name string) string {
	switch schema {
	case "pgq":
		return pgqRole(name)
	case "pgq_coop":
		if name != "version" {
			return "pgq_reader"
		}
	case "pgq_ext":
		if name != "version" {
			return "pgq_writer"
		}
	}
	return ""
}

// pgqRole is section 11 of the contract.
func pgqRole(name string) string {
	for role, names := range map[string]string{
		"pgq_reader": "register_consumer register_consumer_at unregister_consumer next_batch next_batch_info next_batch_custom " +
			"get_batch_events get_batch_cursor get_batch_info event_retry batch_retry finish_batch force_tick batch_event_sql " +
			"batch_event_tables find_tick_helper event_failed failed_event_list failed_event_count failed_event_delete " +
			"failed_event_retry",
		"pgq_writer": "insert_event current_event_table logutriga sqltriga jsontriga logtriga",
		"pgq_admin": "ticker maint_retry_events maint_rotate_tables_step1 maint_rotate_tables_step2 maint_tables_to_vacuum " +
			"maint_operations upgrade_schema grant_perms tune_storage seq_setval create_queue drop_queue set_queue_config " +
			"insert_event_raw event_retry_raw _grant_perms_from",
	} {
		if slices.Contains(strings.Fields(names), name) {
			return role
		}
	}
	return ""
}
