create or replace function skyd.capture_changes(
    in i_kind text, in i_table oid, in i_trigger text, in i_op text, in i_when text, in i_args text[], in i_many boolean)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_changes(7)
    --
    --     The query for the events of a statement: from the code that was made
    --     for the trigger, or made up now.
    --
    -- Parameters:
    --     i_kind    - logutriga, sqltriga or jsontriga
    --     i_table   - TG_RELID
    --     i_trigger - TG_NAME
    --     i_op      - TG_OP
    --     i_when    - TG_WHEN
    --     i_args    - TG_ARGV
    --     i_many    - as in skyd.capture_statement
    --
    -- Returns:
    --     as skyd.capture_statement(5)
    --
    -- Raises:
    --     denied; bad arguments; as skyd.capture_statement(5); 40001 when the
    --     table changed after the snapshot
    --
    -- Calls:
    --     skyd.capture_options(1), skyd.capture_refuse(4),
    --     skyd.capture_check(2), skyd.capture_statement(5),
    --     skyd.capture_build(2), the code
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as skyd.capture_build(2)
    -- ----------------------------------------------------------------
declare
    v_source  text := concat('skyd_gen.s', i_table, '_', to_hex(hashtextextended(i_trigger, 0)));
    v_query   text;
    v_options jsonb;
begin
    if to_regproc(v_source) is not null then
        execute concat('select ', v_source, '($1, $2)') into v_query using i_op, i_many;
    end if;
    if v_query is null then
        v_options := skyd.capture_options(i_args);
        perform skyd.capture_refuse(i_table, i_op, i_when, v_options);
        perform skyd.capture_check(i_table, null::text);
        v_query := skyd.capture_statement(i_kind, i_table, i_op, v_options, i_many);
        perform skyd.capture_build(i_table, i_trigger);
    end if;
    return v_query;
end;
$$ language plpgsql volatile set search_path = pg_catalog, skyd, pg_temp;
