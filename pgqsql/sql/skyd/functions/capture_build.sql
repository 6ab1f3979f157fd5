create or replace function skyd.capture_build(i_table oid, i_trigger text)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_build(2)
    --
    --     Makes the encoder of a capture trigger, or makes it anew. Triggers
    --     call it when they find none that fits; it waits for nobody and never
    --     fails: while another transaction makes the same encoder, or where
    --     none can be made, rows go the slow way.
    --
    --     Security definer: whoever writes to a table need not be able to
    --     create functions. All it takes is the name of a trigger; what is
    --     made follows from the catalog, belongs to the owner of this function
    --     and runs with the rights of whoever writes, like the trigger.
    --
    -- Parameters:
    --     i_table   - table
    --     i_trigger - name of the trigger
    --
    -- Returns:
    --     true when it was made
    --
    -- Raises:
    --     nothing; a warning, once in a transaction, when it failed
    --
    -- Calls:
    --     skyd.capture_trigger(2), skyd.capture_code(3),
    --     skyd.capture_lines(2), skyd.capture_route(0)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     advisory lock of the encoder to the end of the transaction, if it is
    --     free; as skyd.capture_route(0)
    -- ----------------------------------------------------------------
declare
    v_trigger record;
    v_body    text;
    v_name    text := i_table || '_' || to_hex(hashtextextended(i_trigger, 0));
begin
    if current_setting('skyd.capture_failed', true) = txid_current()::text
       or not pg_try_advisory_xact_lock(1936423268, hashtext(v_name)) then
        return false;
    end if;
    begin
        v_trigger := skyd.capture_trigger(i_table, i_trigger);
        if v_trigger.form is null then
            return false;
        end if;
        v_body := skyd.capture_code(i_table, i_trigger, v_trigger.form);
        if v_body is null then
            return false;
        end if;
        if v_trigger.form = 'statement' then
            execute format('create or replace function skyd_gen.s%s(_op text, _many boolean) returns text language plpgsql as %L',
                           v_name, v_body);
            execute format('revoke all on function skyd_gen.s%s(text, boolean) from public', v_name);
            execute format('grant execute on function skyd_gen.s%s(text, boolean) to pgq_writer', v_name);
            v_body := coalesce(skyd.capture_code(i_table, i_trigger, 'single'), e'begin\n_done := false;\nend;\n');
            execute format('create or replace procedure skyd_gen.o%s(_new record, _old record, _op text, inout _done boolean)'
                           ' language plpgsql as %L', v_name, v_body);
            v_name := 'o' || v_name;
        else
            execute format('create or replace function skyd_gen.r%s(_op text, _new record, _old record) returns boolean'
                           ' language plpgsql as %L', v_name, v_body);
            v_name := 'r' || v_name;
        end if;
        execute format('revoke all on routine skyd_gen.%s from public', v_name);
        execute format('grant execute on routine skyd_gen.%s to pgq_writer', v_name);
        if v_trigger.form = 'row' then
            perform skyd.capture_lines(i_table, i_trigger);
            perform skyd.capture_route();
        end if;
        return true;
    exception
        when others then
            perform set_config('skyd.capture_failed', txid_current()::text, true);
            raise warning 'no encoder for trigger % on table %: %', i_trigger, i_table::regclass, sqlerrm
                using hint = 'Changes are captured, but slowly.';
            return false;
    end;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, skyd, pg_temp;
