create or replace function skyd.capture_fits(i_table oid, i_trigger text, i_shape text, i_row anyelement)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_fits(4)
    --
    --     As skyd.capture_fresh(3), but looks for each row: for transactions
    --     whose answer no plan may remember.
    --
    -- Parameters:
    --     i_table   - table
    --     i_trigger - name of the trigger
    --     i_shape   - skyd.capture_shape at the time the encoder was made
    --     i_row     - a row of the table
    --
    -- Returns:
    --     true or false
    --
    -- Raises:
    --     40001 when the table changed after the snapshot
    --
    -- Calls:
    --     skyd.capture_check(2), skyd.capture_shape(2)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    -- Others cannot change the table any more once it was written to, so one check is enough for a transaction.
    v_seen text := 'skyd.checked_' || i_table;
begin
    if current_setting(v_seen, true) is distinct from txid_current()::text then
        perform skyd.capture_check(i_table, i_row);
        perform set_config(v_seen, txid_current()::text, true);
    end if;
    return coalesce(skyd.capture_shape(i_table, i_trigger) = i_shape, false);
end;
$$ language plpgsql volatile set search_path = pg_catalog, skyd, pg_temp;
