create or replace function skyd.capture_lines(i_table oid, i_trigger text)
returns void as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_lines(2)
    --
    --     Makes the functions that the planner puts into the plan of a row
    --     trigger, two for each operation. The first (x..) looks whether all
    --     this still fits the table; only then the planner reads the second
    --     (y..), which names columns. The first also leaves the table as a
    --     constant in the plan: a change of the table then throws it away. See
    --     skyd.capture_fresh(3).
    --
    -- Parameters:
    --     i_table   - table
    --     i_trigger - name of the trigger
    --
    -- Returns:
    --     nothing
    --
    -- Raises:
    --     as skyd.capture_inline(3)
    --
    -- Calls:
    --     skyd.capture_shape(2), skyd.capture_inline(3),
    --     skyd.capture_encoder(3); the code that it makes:
    --     skyd.capture_fresh(3), the encoder
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_name  text := i_table || '_' || to_hex(hashtextextended(i_trigger, 0));
    v_shape text := skyd.capture_shape(i_table, i_trigger);
    v_op    record;
    v_row   text;
    v_line  text;
    v_head  text;
begin
    for v_op in
        select o.* from (values ('INSERT', 'anyelement', '$1'), ('UPDATE', 'anyelement, anyelement', '$1, $2'), ('DELETE', 'anyelement', '$1')) o (name, args, call)
    loop
        v_row := skyd.capture_encoder(i_table, i_trigger, v_op.name);
        v_line := coalesce(skyd.capture_inline(i_table, i_trigger, v_op.name), v_row);
        v_head := lower(left(v_op.name, 1)) || v_name;
        execute format('create or replace function skyd_gen.y%s(%s) returns boolean language sql volatile as %L',
                       v_head, v_op.args, 'select ' || v_line);
        execute format('create or replace function skyd_gen.x%s(name, %s) returns boolean language sql volatile as %L', v_head, v_op.args, format(
            'select case when not skyd.capture_fresh(''%s''::pg_catalog.regclass, %L, %L) is true then %s'
            ' when pg_catalog.num_nulls($1, ''%1$s''::pg_catalog.regclass) operator(pg_catalog.=) 0 then skyd_gen.y%5$s(%6$s) end',
            i_table, i_trigger, v_shape, case v_op.name when 'UPDATE' then replace(replace(v_row, '$2', '$3'), '$1', '$2') else replace(v_row, '$1', '$2') end,
            v_head, case v_op.name when 'UPDATE' then '$2, $3' else '$2' end));
        execute format('revoke all on function skyd_gen.y%1$s, skyd_gen.x%1$s from public', v_head);
        execute format('grant execute on function skyd_gen.y%1$s, skyd_gen.x%1$s to pgq_writer', v_head);
    end loop;
end;
$$ language plpgsql volatile set search_path = pg_catalog, skyd, pg_temp;
