create or replace function pgq.lease_key(i_unit text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.lease_key(1)
    --
    --     Key of the advisory lock behind a lease that belongs to a session.
    --
    -- Parameters:
    --     i_unit - name of the unit
    --
    -- Returns:
    --     key for pg_try_advisory_lock(bigint); null for null
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return hashtextextended('skyd:' || i_unit, 0);
end;
$$ language plpgsql immutable set search_path = pg_catalog, pgq, pg_temp;
