create or replace function pgq.next_group_batch(i_queue_name text, i_group_name text, i_worker text, i_slots integer[], i_max_count integer,
    out batch jsonb, out cur_tick_id bigint, out prev_tick_id bigint, out cur_tick_time timestamptz, out prev_tick_time timestamptz,
    out cur_tick_event_seq bigint, out prev_tick_event_seq bigint, out slots integer[], out epochs bigint[])
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.next_group_batch(5)
    --
    --     Next batch of a worker of an ordered group: the events of its slots
    --     between two ticks. Slots that stand at the same tick come together, so
    --     that a worker reads the queue once for all of them; of several such
    --     sets the one that had its turn longest ago comes first.
    --
    --     Nothing is written: until pgq.finish_group_batch the same slots give a
    --     batch with the same start again.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_group_name - group name
    --     i_worker     - name of the worker; one name for each process, never
    --                    used by two at once
    --     i_slots      - only these slots; null: all that the worker has
    --     i_max_count  - take several ticks as one batch, of about so many
    --                    events at most; null: one tick
    --
    -- Returns:
    --     batch - what the other calls want; null: nothing to do, and so are all others
    --     ticks of start and end with time and event counter, slots and their epochs
    --
    -- Raises:
    --     no such group; the position of a slot is gone
    --
    -- Calls:
    --     pgq._find_group(3)
    --
    -- Tables:
    --     read   - pgq.group_slot, pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_group pgq.slot_group%rowtype := pgq._find_group(i_queue_name, i_group_name, false);
    v_set   record;
    v_prev  pgq.tick%rowtype;
    v_next  pgq.tick%rowtype;
begin
    for v_set in
        select m.last_tick, array_agg(m.slot order by m.slot) as slots, array_agg(m.epoch order by m.slot) as epochs,
               lead(m.last_tick) over (order by m.last_tick) as ahead
          from pgq.group_slot m
         where m.group_id = v_group.group_id
           and m.worker = i_worker
           and m.expires > clock_timestamp()
           and (i_slots is null or m.slot = any (i_slots))
         group by m.last_tick
         order by min(m.active)
    loop
        select t.* into v_prev from pgq.tick t where t.tick_queue = v_group.queue_id and t.tick_id = v_set.last_tick;
        if not found then
            raise exception 'position of group % is gone: tick %', i_group_name, v_set.last_tick
                using errcode = 'object_not_in_prerequisite_state',
                      hint = 'The consumer of the group was moved or used by somebody else.';
        end if;
        -- not past others of ours, to go on together, and not past a change of the number of slots
        select t.* into v_next
          from pgq.tick t
         where t.tick_queue = v_group.queue_id
           and t.tick_id > v_set.last_tick
           and t.tick_id <= least(v_set.ahead, v_group.cut_tick, 9223372036854775807)
         order by t.tick_id
         limit 1;
        continue when not found;
        if i_max_count is not null and v_next.tick_event_seq - v_prev.tick_event_seq < i_max_count then
            select t.* into v_next
              from pgq.tick t
             where t.tick_queue = v_group.queue_id
               and t.tick_id >= v_next.tick_id
               and t.tick_id <= least(v_set.ahead, v_group.cut_tick, 9223372036854775807)
               and t.tick_event_seq <= greatest(v_prev.tick_event_seq + i_max_count, v_next.tick_event_seq)
             order by t.tick_id desc
             limit 1;
        end if;
        batch := jsonb_build_object('group', v_group.group_id, 'worker', i_worker, 'slots', v_set.slots,
                                    'epochs', v_set.epochs, 'prev', v_prev.tick_id, 'next', v_next.tick_id);
        cur_tick_id := v_next.tick_id;
        prev_tick_id := v_prev.tick_id;
        cur_tick_time := v_next.tick_time;
        prev_tick_time := v_prev.tick_time;
        cur_tick_event_seq := v_next.tick_event_seq;
        prev_tick_event_seq := v_prev.tick_event_seq;
        slots := v_set.slots;
        epochs := v_set.epochs;
        return;
    end loop;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
