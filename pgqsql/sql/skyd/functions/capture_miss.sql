create or replace function skyd.capture_miss(
    i_kind text, i_done boolean, i_table oid, i_trigger text, i_op text, i_when text, i_args text[],
    i_new anyelement, i_old anyelement)
returns void as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_miss(9)
    --
    --     Captures a row change that no encoder has captured: by the encoder
    --     that no route leads to yet, or without one, and then makes what was
    --     missing.
    --
    --     Runs with the rights and the search path of whoever writes.
    --
    -- Parameters:
    --     i_kind    - logutriga, sqltriga or jsontriga
    --     i_done    - null: no route; false: the encoder does not fit
    --     i_table   - TG_RELID
    --     i_trigger - TG_NAME
    --     i_op      - TG_OP
    --     i_when    - TG_WHEN
    --     i_args    - TG_ARGV
    --     i_new     - new row; of a delete the old one
    --     i_old     - old row; of an insert the new one
    --
    -- Returns:
    --     nothing
    --
    -- Raises:
    --     as skyd.capture_row(7)
    --
    -- Calls:
    --     skyd.capture_row(7), skyd.capture_build(2), skyd.capture_route(0),
    --     the encoder
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_event(7), skyd.capture_build(2)
    -- ----------------------------------------------------------------
declare
    v_done    boolean := i_done;
    v_encoder text := pg_catalog.concat('skyd_gen.r', i_table, '_', pg_catalog.to_hex(pg_catalog.hashtextextended(i_trigger, 0)));
begin
    if v_done is null and pg_catalog.to_regproc(v_encoder) is not null then
        execute pg_catalog.concat('select ', v_encoder, '($1, $2, $3)') into v_done using i_op, i_new, i_old;
        if pg_catalog.current_setting('skyd.route_tried', true) is distinct from pg_catalog.txid_current()::pg_catalog.text then
            perform pg_catalog.set_config('skyd.route_tried', pg_catalog.txid_current()::pg_catalog.text, true);
            perform skyd.capture_route();
        end if;
    end if;
    if v_done is not true then
        perform skyd.capture_row(i_kind, i_table, i_op, i_when, i_args, i_new, i_old);
        perform skyd.capture_build(i_table, i_trigger);
    end if;
end;
$$ language plpgsql volatile;
