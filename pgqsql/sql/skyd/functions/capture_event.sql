create or replace function skyd.capture_event(
    in i_kind text, in i_table oid, in i_op text, in i_options jsonb, in i_new text, in i_old text,
    out key_changed text, out passed_over text, out key_null text, out wanted text, out ev_type text, out ev_data text,
    out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_event(6)
    --
    --     SQL that makes the event of a row change, the one source of all
    --     capture triggers: they differ in where the expressions are put and
    --     how often they are planned, never in what comes out.
    --
    -- Parameters:
    --     i_kind    - logutriga, sqltriga or jsontriga
    --     i_table   - table
    --     i_op      - INSERT, UPDATE or DELETE
    --     i_options - from skyd.capture_options
    --     i_new     - SQL for the row; of a delete the old one
    --     i_old     - SQL for the old row
    --
    -- Returns:
    --     expressions. Boolean, null where there is nothing to look at:
    --     key_changed and key_null (both refuse the change), passed_over (the
    --     change makes no event and nothing after this is evaluated), wanted
    --     (null or false: refuse, no event). Text: the fields of the event
    --
    -- Raises:
    --     unknown magic column; no key for an update or delete
    --
    -- Calls:
    --     skyd.capture_columns(2), skyd.capture_key(2),
    --     skyd.capture_column(2), skyd.capture_changed(5),
    --     skyd.capture_value(5),
    --     skyd.capture_data(6), skyd.capture_json_type(3)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    -- the expression sees the columns without prefix; further columns and the end of the line cut nothing off
    c_from   constant text := e'\n from (select (' || i_new || ').*) r) y (x))';
    v_key    record;
    v_magic  jsonb;
    v_fields jsonb;
    v_data   text;
    v_other  text;
begin
    v_key := skyd.capture_key(i_table, i_options);
    if i_op <> 'INSERT' and v_key.key_list = '' then
        raise exception 'table % has no primary key, % cannot be logged', i_table::regclass, lower(i_op)
            using errcode = 'object_not_in_prerequisite_state', hint = 'Add a key, or name columns with pkey=.';
    end if;
    select string_agg(skyd.capture_changed(i_new, i_old, c.col_name, c.col_type, c.col_base), ' or ' order by c.col_no)
               filter (where c.is_key),
           string_agg(skyd.capture_changed(i_new, i_old, c.col_name, c.col_type, c.col_base), ' or ' order by c.col_no)
               filter (where c.is_data),
           string_agg(skyd.capture_changed(i_new, i_old, c.col_name, c.col_type, c.col_base), ' or ' order by c.col_no)
               filter (where not c.is_data),
           string_agg(format('pg_catalog.num_nulls(%s) operator(pg_catalog.=) 1', skyd.capture_column(i_new, c.col_name)), ' or ' order by c.col_no)
               filter (where c.is_key and i_kind = 'sqltriga'),
           coalesce(jsonb_object_agg(c.magic, skyd.capture_value('text', i_new, c.col_name, c.col_type, c.col_base))
                        filter (where c.magic is not null), '{}')
      into key_changed, v_data, v_other, key_null, v_magic
      from skyd.capture_columns(i_table, i_options) c;
    if i_op <> 'UPDATE' then
        key_changed := null;
    elsif v_other <> '' and (i_kind = 'sqltriga' or i_options ? 'ignore') then
        -- something changed, but nothing that is logged
        passed_over := format('(%s) and (%s) is not true', v_other, coalesce(v_data, 'false'));
    end if;
    if i_op = 'INSERT' then
        key_null := null;
    end if;

    v_fields := jsonb_build_object(
        'ev_type', case i_kind
            when 'logutriga' then quote_literal(left(i_op, 1) || ':' || v_key.key_list)
            when 'sqltriga' then quote_literal(left(i_op, 1))
            else quote_literal(skyd.capture_json_type(i_table, i_op, v_key.key_json)) end,
        'ev_extra1', (select quote_literal(n.nspname || '.' || r.relname)
                        from pg_class r join pg_namespace n on n.oid = r.relnamespace where r.oid = i_table),
        'ev_extra2', case when i_op = 'UPDATE' and i_options ? 'backup'
            then skyd.capture_data(case i_kind when 'jsontriga' then i_kind else 'logutriga' end,
                                   i_table, 'DELETE', i_options, i_old, i_old)
            else 'null' end,
        'ev_extra3', 'null', 'ev_extra4', 'null');
    if not v_magic ? 'ev_data' and not i_options ? 'ev_data' then
        v_fields := v_fields || jsonb_build_object(
            'ev_data', skyd.capture_data(i_kind, i_table, i_op, i_options, i_new, i_old));
    end if;
    v_fields := v_fields || v_magic || (
        select coalesce(jsonb_object_agg(f, '(select case when pg_catalog.num_nulls(y.x) operator(pg_catalog.=) 0'
                            ' then pg_catalog.concat(y.x) end from (select ' || (i_options ->> f) || c_from), '{}')
          from unnest(array['ev_type', 'ev_data', 'ev_extra1', 'ev_extra2', 'ev_extra3', 'ev_extra4']) f
         where i_options ? f);
    wanted := '(select y.x and true from (select ' || (i_options ->> 'when') || c_from;
    ev_type := v_fields ->> 'ev_type';
    ev_data := v_fields ->> 'ev_data';
    ev_extra1 := v_fields ->> 'ev_extra1';
    ev_extra2 := v_fields ->> 'ev_extra2';
    ev_extra3 := v_fields ->> 'ev_extra3';
    ev_extra4 := v_fields ->> 'ev_extra4';
end;
$$ language plpgsql stable set search_path = pg_catalog, skyd, pg_temp;
