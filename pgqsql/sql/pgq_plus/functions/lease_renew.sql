create or replace function pgq.lease_renew(i_unit text, i_epoch bigint, i_ttl interval)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.lease_renew(3)
    --
    --     Prolongs a lease that ends by time. One that has run out may still
    --     be renewed as long as nobody has taken the unit: the epoch tells.
    --
    -- Parameters:
    --     i_unit - name of the unit
    --     i_epoch - epoch that pgq.lease_take gave
    --     i_ttl - time to live from now on
    --
    -- Returns:
    --     1 - prolonged
    --     0 - lost: another holder has the unit; stop working on it
    --
    -- Raises:
    --     invalid_parameter_value - a ttl that is null or not positive
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     update - pgq.lease
    --
    -- Locks:
    --     the row of the unit, beside fenced transactions of the holder
    -- ----------------------------------------------------------------
begin
    if i_ttl is null or i_ttl <= '0'::interval then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('time to live of a lease must be positive, not %s', coalesce(i_ttl::text, 'null'));
    end if;
    update pgq.lease l set lease_expires = clock_timestamp() + i_ttl
    where l.lease_unit = i_unit and l.lease_epoch = i_epoch and l.lease_expires is not null;
    return case when found then 1 else 0 end;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
