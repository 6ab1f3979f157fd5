create or replace function pgq.lease_take(i_unit text, i_holder text, i_ttl interval)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.lease_take(3)
    --
    --     Makes the caller the one who works on a unit. There are two kinds
    --     of leases. With a ttl the lease ends by the server's clock unless
    --     pgq.lease_renew prolongs it; this kind works behind a transaction
    --     pooler. With a null ttl it belongs to the session that holds the
    --     advisory lock pgq.lease_key(unit), and ends with that session.
    --
    --     While a transaction of the last holder is open that called
    --     pgq.lease_fence, nobody else gets the unit: what the old holder
    --     commits and what the new one does never overlap.
    --
    -- Parameters:
    --     i_unit - name of what must be done by one only, such as ticker/main
    --     i_holder - name of the caller, for people who look
    --     i_ttl - time to live; null: the caller's session holds the advisory lock
    --
    -- Returns:
    --     epoch of the new lease, larger than all before;
    --     null - another holder has it, or is in the middle of a fenced transaction
    --
    -- Raises:
    --     null_value_not_allowed - no unit or holder
    --     invalid_parameter_value - a ttl that is not positive
    --     object_not_in_prerequisite_state - no ttl, and the session does not hold the lock
    --
    -- Calls:
    --     pgq.lease_key(1)
    --
    -- Tables:
    --     insert, update - pgq.lease
    --
    -- Locks:
    --     the row of the unit, without waiting
    -- ----------------------------------------------------------------
declare
    v_lease  pgq.lease%rowtype;
    v_key    bigint := pgq.lease_key(i_unit);
begin
    if i_unit is null or i_holder is null then
        raise exception using errcode = 'null_value_not_allowed', message = 'a lease needs a unit and a holder';
    end if;
    if i_ttl <= '0'::interval then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('time to live of a lease must be positive, not %s', i_ttl);
    end if;
    if i_ttl is null and not exists (
        select from pg_locks l
        where l.locktype = 'advisory' and l.pid = pg_backend_pid() and l.granted and l.mode = 'ExclusiveLock'
          and l.database = (select d.oid from pg_database d where d.datname = current_database())
          and l.classid::bigint = (v_key >> 32) & 4294967295 and l.objid::bigint = v_key & 4294967295 and l.objsubid = 1)
    then
        raise exception using errcode = 'object_not_in_prerequisite_state',
            message = format('this session does not hold the advisory lock of unit %s', i_unit),
            hint = 'pg_try_advisory_lock(pgq.lease_key(unit)) first, or give a time to live';
    end if;

    insert into pgq.lease (lease_unit, lease_epoch, lease_holder, lease_expires)
    values (i_unit, 1, i_holder, clock_timestamp() + i_ttl)
    on conflict (lease_unit) do nothing;
    if found then
        return 1;
    end if;
    select * into v_lease from pgq.lease l where l.lease_unit = i_unit for update skip locked;
    if not found or v_lease.lease_expires > clock_timestamp() then
        return null;
    end if;
    if i_ttl is not null and v_lease.lease_expires is null and not pg_try_advisory_xact_lock(v_key) then
        -- its session lives
        return null;
    end if;
    update pgq.lease l
    set lease_epoch = l.lease_epoch + 1, lease_holder = i_holder, lease_taken = clock_timestamp(),
        lease_expires = clock_timestamp() + i_ttl
    where l.lease_unit = i_unit
    returning l.lease_epoch into v_lease.lease_epoch;
    return v_lease.lease_epoch;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
