create or replace function pgq._settle_group(i_group pgq.slot_group)
returns pgq.slot_group as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._settle_group(1)
    --
    --     Does what is due for a group: goes over to the new number of slots
    --     once all slots have reached the tick at which to change, and moves the
    --     group's subscription, which holds rotation, up to the slot that is
    --     furthest behind.
    --
    --     The slots of the new number start where the old ones ended, with
    --     epochs above all that were given out.
    --
    -- Parameters:
    --     i_group - the group, locked by the caller
    --
    -- Returns:
    --     the row of the group as it is now
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.register_consumer_at(3)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.subscription
    --     update - pgq.slot_group
    --     insert, delete - pgq.group_slot
    --
    -- Locks:
    --     all slots of the group when the number changes; the group's
    --     subscription
    -- ----------------------------------------------------------------
declare
    v_group pgq.slot_group%rowtype := i_group;
    v_epoch bigint;
    v_tick  bigint;
begin
    if v_group.new_slots is not null and not exists (
        select 1 from pgq.group_slot s
         where s.group_id = v_group.group_id and s.last_tick <> v_group.cut_tick)
    then
        -- waits for a transaction that has just finished the last batch
        perform 1 from pgq.group_slot s where s.group_id = v_group.group_id order by s.slot for update;
        select max(s.epoch) into v_epoch from pgq.group_slot s where s.group_id = v_group.group_id;
        delete from pgq.group_slot s where s.group_id = v_group.group_id;
        insert into pgq.group_slot (group_id, slot, last_tick, epoch)
        select v_group.group_id, i, v_group.cut_tick, v_epoch
          from generate_series(0, v_group.new_slots - 1) i;
        update pgq.slot_group g
           set slots = g.new_slots, new_slots = null, cut_tick = null
         where g.group_id = v_group.group_id
        returning g.* into v_group;
    end if;

    select min(s.last_tick) into v_tick from pgq.group_slot s where s.group_id = v_group.group_id;
    perform pgq.register_consumer_at(q.queue_name, v_group.group_name, v_tick)
       from pgq.subscription s
       join pgq.queue q on q.queue_id = s.sub_queue
      where s.sub_queue = v_group.queue_id
        and s.sub_consumer = v_group.consumer_id
        and (s.sub_last_tick is distinct from v_tick or s.sub_batch is not null);
    return v_group;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
