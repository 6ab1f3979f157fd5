create or replace function pgq.renew_slots(i_queue_name text, i_group_name text, i_worker text, i_ttl interval)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.renew_slots(4)
    --
    --     Sign of life of a worker that is at work: prolongs its leases and
    --     changes nothing else. A lease that has run out may still be renewed as
    --     long as nobody has taken the slot.
    --
    --     Security definer: consumers have no right to write the tables of
    --     groups.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_group_name - group name
    --     i_worker     - name of the worker; one name for each process, never
    --                    used by two at once
    --     i_ttl        - time that the leases live without being renewed
    --
    -- Returns:
    --     number of slots that the worker has
    --
    -- Raises:
    --     no such group; time to live not positive
    --
    -- Calls:
    --     pgq._find_group(3)
    --
    -- Tables:
    --     insert, update - pgq.group_worker
    --     update - pgq.group_slot
    --
    -- Locks:
    --     the rows of the worker and of its slots
    -- ----------------------------------------------------------------
declare
    v_group pgq.slot_group%rowtype := pgq._find_group(i_queue_name, i_group_name, false);
    v_held  integer;
begin
    if i_ttl is null or i_ttl <= interval '0' then
        raise exception 'time to live must be positive, not %', coalesce(i_ttl::text, '<null>')
            using errcode = 'invalid_parameter_value';
    end if;
    perform 1 from pgq.group_slot s
      where s.group_id = v_group.group_id and s.worker = i_worker
      order by s.slot
        for no key update;
    update pgq.group_slot s
       set expires = clock_timestamp() + i_ttl
     where s.group_id = v_group.group_id and s.worker = i_worker;
    get diagnostics v_held = row_count;
    if v_held > 0 then
        insert into pgq.group_worker as w (group_id, worker, expires)
        values (v_group.group_id, i_worker, clock_timestamp() + i_ttl)
        on conflict (group_id, worker) do update set expires = excluded.expires;
    end if;
    return v_held;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
