create or replace function pgq.lease_release(i_unit text, i_epoch bigint)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.lease_release(2)
    --
    --     Gives a unit back, so that the next holder need not wait for the
    --     time to live. The epoch stays used.
    --
    -- Parameters:
    --     i_unit - name of the unit
    --     i_epoch - epoch that pgq.lease_take gave
    --
    -- Returns:
    --     1 - given back
    --     0 - it was not held with this epoch any more
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     update - pgq.lease
    --
    -- Locks:
    --     the row of the unit; waits for fenced transactions of the holder
    -- ----------------------------------------------------------------
begin
    update pgq.lease l
    set lease_epoch = l.lease_epoch + 1, lease_holder = '', lease_expires = clock_timestamp()
    where l.lease_unit = i_unit and l.lease_epoch = i_epoch;
    return case when found then 1 else 0 end;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
