create or replace function pgq.resize_group(i_queue_name text, i_group_name text, i_slots integer)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.resize_group(3)
    --
    --     Changes the number of slots of a group without losing or reordering
    --     anything: all slots are worked up to one tick, the newest one at the
    --     time of this call, and from there on the new number holds. Whoever
    --     calls pgq.acquire_slots when the last slot has got there makes the
    --     change; until then this may be called again with another number. A
    --     crash at any moment leaves a state to go on from.
    --
    --     Workers that still hold slots of the old number cannot finish anything
    --     any more.
    --
    --     Security definer: consumers have no right to write the tables of
    --     groups.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_group_name - group name
    --     i_slots      - new number of slots, 1 to 4096
    --
    -- Returns:
    --     1 - begun, and done already if all slots were there
    --     0 - the group has this number, or is on its way to it
    --
    -- Raises:
    --     no such group; number of slots out of range; lock_not_available when
    --     a transaction that has finished a batch does not end within 2 s, as
    --     that of a worker that froze or lost its network: nothing is changed
    --
    -- Calls:
    --     pgq._find_group(3), pgq._settle_group(1)
    --
    -- Tables:
    --     read   - pgq.tick, pgq.group_slot
    --     update - pgq.slot_group, pgq.group_slot
    --
    -- Locks:
    --     the row of the group and its slots; waits 2 s at most for
    --     transactions that have finished a batch
    -- ----------------------------------------------------------------
declare
    v_group pgq.slot_group%rowtype;
begin
    if i_slots is null or i_slots not between 1 and 4096 then
        raise exception 'number of slots must be 1 to 4096, not %', coalesce(i_slots::text, '<null>')
            using errcode = 'invalid_parameter_value';
    end if;
    v_group := pgq._find_group(i_queue_name, i_group_name, true);
    if i_slots = coalesce(v_group.new_slots, v_group.slots) then
        return 0;
    end if;
    -- Who has finished a batch is waited for, and who is about to waits for us and looks again. So no slot is
    -- beyond the newest tick, and all can get there. The rows are written for those with a fixed snapshot.
    begin
        perform 1 from pgq.group_slot s where s.group_id = v_group.group_id order by s.slot for update;
    exception
        when lock_not_available then
            raise exception 'a slot of group % is held by an open transaction of a worker', i_group_name
                using errcode = 'lock_not_available',
                      hint = 'Try again; pg_stat_activity and pg_blocking_pids() tell who keeps it.';
    end;
    update pgq.group_slot s set active = s.active where s.group_id = v_group.group_id;
    update pgq.slot_group g
       set new_slots = i_slots,
           cut_tick = coalesce(g.cut_tick, (
               select t.tick_id from pgq.tick t where t.tick_queue = g.queue_id order by t.tick_id desc limit 1))
     where g.group_id = v_group.group_id
    returning g.* into v_group;
    perform pgq._settle_group(v_group);
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp set lock_timeout = '2s';
