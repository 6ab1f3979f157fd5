create or replace function pgq._trigger_event_sql(i_kind text, i_table oid, i_op text, i_options jsonb)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._trigger_event_sql(4)
    --
    --     SQL that makes the event of one row change: one query whose whole
    --     text depends on the table only, its parameters are the rows.
    --
    -- Parameters:
    --     i_kind    - logutriga, sqltriga or jsontriga
    --     i_table   - table
    --     i_op      - INSERT, UPDATE or DELETE
    --     i_options - from pgq._trigger_options
    --
    -- Returns:
    --     SELECT of wanted, changed, logged_changed, key_changed, key_null
    --     (boolean), ev_type, ev_data, ev_extra1 to ev_extra4 (text). $1 is
    --     the new row (old one of a delete), $2 the old row
    --
    -- Raises:
    --     unknown magic column; no key for an update or delete
    --
    -- Calls:
    --     pgq._trigger_columns(2), pgq._trigger_data_sql(5),
    --     pgq._trigger_json_type(3)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_cols    record;
    v_fields  jsonb;
    v_field   text;
    v_expr    text;
    v_columns text := '';
begin
    select count(c.key_no) as keys,
           coalesce(string_agg(c.col_name, ',' order by c.key_no) filter (where c.key_no is not null), '') as key_list,
           coalesce(json_agg(c.col_name order by c.key_no) filter (where c.key_no is not null), '[]')::text as key_json,
           coalesce(string_agg(format('(%s) is distinct from (%s)', c.new_text, c.old_text), ' or '), 'false') as changed,
           coalesce(string_agg(format('(%s) is distinct from (%s)', c.new_text, c.old_text), ' or ')
                    filter (where not coalesce(i_options -> 'ignore' ? c.col_name, false)), 'false') as logged_changed,
           coalesce(string_agg(format('(%s) is distinct from (%s)', c.new_text, c.old_text), ' or ')
                    filter (where c.key_no is not null), 'false') as key_changed,
           coalesce(string_agg(format('(%s) is null', c.new_text), ' or ')
                    filter (where c.key_no is not null), 'false') as key_null,
           coalesce(jsonb_object_agg(c.magic, c.new_text) filter (where c.magic is not null), '{}') as magic
      into v_cols
      from pgq._trigger_columns(i_table, i_options) c;
    if i_op <> 'INSERT' and v_cols.keys = 0 then
        raise exception 'table % has no primary key, % cannot be logged', i_table::regclass, lower(i_op)
            using errcode = 'object_not_in_prerequisite_state', hint = 'Add a key, or name columns with pkey=.';
    end if;

    v_fields := jsonb_build_object(
        'ev_type', case i_kind
            when 'logutriga' then quote_literal(left(i_op, 1) || ':' || v_cols.key_list)
            when 'sqltriga' then quote_literal(left(i_op, 1))
            else quote_literal(pgq._trigger_json_type(i_table, i_op, v_cols.key_json)) end,
        'ev_data', pgq._trigger_data_sql(i_kind, i_table, i_op, i_options, '$1'),
        'ev_extra1', (select quote_literal(n.nspname || '.' || r.relname)
                        from pg_class r join pg_namespace n on n.oid = r.relnamespace where r.oid = i_table),
        'ev_extra2', case when i_op = 'UPDATE' and i_options ? 'backup'
            then pgq._trigger_data_sql(
                case i_kind when 'jsontriga' then i_kind else 'logutriga' end, i_table, 'DELETE', i_options, '$2')
            else 'null' end,
        'ev_extra3', 'null',
        'ev_extra4', 'null') || v_cols.magic;
    foreach v_field in array array['ev_type', 'ev_data', 'ev_extra1', 'ev_extra2', 'ev_extra3', 'ev_extra4'] loop
        v_expr := v_fields ->> v_field;
        if i_options ? v_field then
            v_expr := format('(select case when pg_catalog.num_nulls(y.x) = 0 then pg_catalog.format(''%%s'', y.x) end'
                             ' from (select %s as x from (select ($1).*) r) y)', i_options ->> v_field);
        end if;
        v_columns := v_columns || ', (' || v_expr || ')::text as ' || v_field;
    end loop;
    return 'select '
        || coalesce('(select (' || (i_options ->> 'when') || ') from (select ($1).*) r)', 'true') || ' as wanted, '
        || case when i_op = 'UPDATE'
                then format('(%s) as changed, (%s) as logged_changed, (%s) as key_changed, ',
                            v_cols.changed, v_cols.logged_changed, v_cols.key_changed)
                else 'true as changed, true as logged_changed, false as key_changed, ' end
        || case when i_op = 'INSERT' then 'false' else '(' || v_cols.key_null || ')' end || ' as key_null'
        || v_columns;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
