create or replace function pgq.acquire_slots(i_queue_name text, i_group_name text, i_worker text, i_ttl interval,
    out slot integer, out epoch bigint, out last_tick bigint, out expires timestamptz)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.acquire_slots(4)
    --
    --     Makes the caller a worker of a group, renews its leases, gives back
    --     what is more than its share, and takes free slots up to its share:
    --     those that nobody has, and those whose lease has run out by the clock
    --     of the server. The share is the number of slots by the number of
    --     living workers; where that leaves a rest, one more for those who have
    --     most.
    --
    --     Call it before the first batch, then between batches, at least every
    --     third of the time to live. A worker that must not give anything back,
    --     because it is at work, calls pgq.renew_slots.
    --
    --     The epoch of a slot grows each time it is taken. Whoever had it before
    --     cannot finish a batch of it any more.
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
    --     rows of slot, epoch, last_tick (position of the slot), expires: the slots that the worker has now
    --
    -- Raises:
    --     no such group; worker name null; time to live not positive
    --
    -- Calls:
    --     pgq._find_group(3), pgq._settle_group(1)
    --
    -- Tables:
    --     insert, update, delete - pgq.group_worker
    --     update - pgq.group_slot
    --
    -- Locks:
    --     the row of the group: workers take turns; slots that are being
    --     finished are left alone
    -- ----------------------------------------------------------------
#variable_conflict use_column
declare
    v_group pgq.slot_group%rowtype;
    v_until timestamptz;
    v_share integer;
    v_held  integer;
begin
    if i_worker is null then
        raise exception 'name of the worker is null' using errcode = 'null_value_not_allowed';
    end if;
    if i_ttl is null or i_ttl <= interval '0' then
        raise exception 'time to live must be positive, not %', coalesce(i_ttl::text, '<null>')
            using errcode = 'invalid_parameter_value';
    end if;
    v_group := pgq._settle_group(pgq._find_group(i_queue_name, i_group_name, true));
    v_until := clock_timestamp() + i_ttl;

    delete from pgq.group_worker w
     where w.group_id = v_group.group_id and w.expires < clock_timestamp() and w.worker <> i_worker;
    insert into pgq.group_worker as w (group_id, worker, expires) values (v_group.group_id, i_worker, v_until)
    on conflict (group_id, worker) do update set expires = excluded.expires;
    -- Not a slot that a transaction of ours is just moving on: it may have lost its network, and all workers wait behind us.
    update pgq.group_slot s
       set expires = v_until
     where s.group_id = v_group.group_id
       and s.slot = any (array(
           select o.slot from pgq.group_slot o
            where o.group_id = v_group.group_id and o.worker = i_worker
              for update skip locked));

    select v_group.slots / r.workers + case when r.place <= v_group.slots % r.workers then 1 else 0 end, r.held
      into v_share, v_held
      from (select h.worker, h.held, count(*) over () as workers,
                   row_number() over (order by h.held desc, h.worker) as place
              from (select w.worker, count(s.slot) as held
                      from pgq.group_worker w
                      left join pgq.group_slot s on s.group_id = w.group_id and s.worker = w.worker
                     where w.group_id = v_group.group_id
                     group by w.worker) h) r
     where r.worker = i_worker;

    if v_held > v_share then
        update pgq.group_slot s
           set worker = null, expires = null
         where s.group_id = v_group.group_id
           and s.slot = any (array(
               select o.slot from pgq.group_slot o
                where o.group_id = v_group.group_id and o.worker = i_worker
                order by o.slot desc
                limit v_held - v_share
                  for update skip locked));
    elsif v_held < v_share then
        update pgq.group_slot s
           set worker = i_worker, epoch = s.epoch + 1, expires = v_until
         where s.group_id = v_group.group_id
           and s.slot = any (array(
               select o.slot from pgq.group_slot o
                where o.group_id = v_group.group_id
                  and (o.worker is null or o.worker <> i_worker and o.expires < clock_timestamp())
                order by o.worker is not null, o.slot
                limit v_share - v_held
                  for update skip locked));
    end if;
    return query
        select s.slot, s.epoch, s.last_tick, s.expires
          from pgq.group_slot s
         where s.group_id = v_group.group_id and s.worker = i_worker
         order by s.slot;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
