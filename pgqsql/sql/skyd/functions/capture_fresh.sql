create or replace function skyd.capture_fresh(i_table regclass, i_trigger text, i_shape text)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_fresh(3)
    --
    --     Tells whether an encoder still fits its table. It is called with
    --     constants only and declared immutable, which it is not: so the
    --     planner calls it once and puts the answer into the plan. The
    --     constant of type regclass makes that plan depend on the table, and
    --     whatever changes the table, the columns or a trigger of it, here or
    --     in another session, committed or not, throws the plan away before
    --     the next row. So the answer is always right and costs nothing.
    --
    -- Parameters:
    --     i_table   - table
    --     i_trigger - name of the trigger
    --     i_shape   - skyd.capture_shape at the time the encoder was made
    --
    -- Returns:
    --     null when the catalogs are seen by an old snapshot (repeatable read)
    --     and a plan must not remember what they say
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     skyd.capture_shape(2)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        return null;
    end if;
    return coalesce(skyd.capture_shape(i_table, i_trigger) = i_shape, false);
end;
$$ language plpgsql immutable set search_path = pg_catalog, skyd, pg_temp;
