create or replace function pgq.reattach_consumer(i_queue_name text, i_consumer_name text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.reattach_consumer(2)
    --
    --     Registers a detached consumer again where it stood, while the events
    --     from there on still exist, and puts the events that waited for its
    --     redelivery back into the retry queue.
    --
    --     The queue row is locked first: a rotation waits, or is over before
    --     the position is looked for.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - consumer name; of a group the main consumer
    --
    -- Returns:
    --     tick it stands at
    --
    -- Raises:
    --     queue not found; the consumer was not detached; it is registered
    --     (55006); its position is gone (55000), with what was lost
    --
    -- Calls:
    --     pgq.register_consumer_at(3)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.tick, pgq.consumer, pgq.subscription
    --     delete - pgq.consumer_state, pgq.dead_letter
    --     insert - pgq.consumer_action, pgq.retry_queue
    --
    -- Locks:
    --     the queue row and the row of pgq.consumer_state
    -- ----------------------------------------------------------------
declare
    v_queue integer;
    v_state pgq.consumer_state%rowtype;
    v_first record;
begin
    select q.queue_id into v_queue from pgq.queue q where q.queue_name = i_queue_name for share;
    if not found then
        raise exception 'queue not found: %', coalesce(i_queue_name, '<null>') using errcode = 'undefined_object';
    end if;
    select t.* into v_state
      from pgq.consumer_state t
     where t.state_queue = v_queue and t.state_consumer = i_consumer_name and t.state = 'detached'
       for update;
    if not found then
        raise exception 'consumer % was not detached from queue %', coalesce(i_consumer_name, '<null>'), i_queue_name
            using errcode = 'undefined_object';
    end if;
    if exists (select 1
                 from pgq.subscription s
                 join pgq.consumer c on c.co_id = s.sub_consumer
                where s.sub_queue = v_queue and c.co_name = i_consumer_name) then
        raise exception 'consumer % is registered on queue % by now', i_consumer_name, i_queue_name
            using errcode = 'object_in_use', hint = 'Unregister it to take the old position.';
    end if;
    -- a rotation deletes the ticks whose events it leaves unreachable
    if not exists (select 1 from pgq.tick t where t.tick_queue = v_queue and t.tick_id = v_state.last_tick) then
        select t.tick_id, t.tick_time, t.tick_event_seq into v_first
          from pgq.tick t
         where t.tick_queue = v_queue
         order by t.tick_queue, t.tick_id
         limit 1;
        raise exception 'position of consumer % on queue % is gone: tick %', i_consumer_name, i_queue_name, v_state.last_tick
            using errcode = 'object_not_in_prerequisite_state',
                  detail = format('Lost are the events between %s and %s, about %s.', v_state.tick_time, v_first.tick_time,
                                  v_first.tick_event_seq - v_state.tick_event_seq),
                  hint = format('What is left begins at tick %s: select pgq.register_consumer_at(%L, %L, %s).',
                                v_first.tick_id, i_queue_name, i_consumer_name, v_first.tick_id);
    end if;

    perform pgq.register_consumer_at(i_queue_name, i_consumer_name, v_state.last_tick);
    with back as (
        delete from pgq.dead_letter d
         where d.dead_queue = v_queue and d.dead_consumer = i_consumer_name and d.dead_reason = 'consumer detached'
        returning d.*
    )
    insert into pgq.retry_queue (
        ev_retry_after, ev_queue, ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data,
        ev_extra1, ev_extra2, ev_extra3, ev_extra4)
    select now(), v_queue, b.ev_id, b.ev_time, s.sub_id, b.ev_retry, b.ev_type, b.ev_data,
           b.ev_extra1, b.ev_extra2, b.ev_extra3, b.ev_extra4
      from back b
      join pgq.consumer c on c.co_name = i_consumer_name
      join pgq.subscription s on s.sub_queue = v_queue and s.sub_consumer = c.co_id;
    -- its limit holds again once it was within it
    update pgq.consumer_state t
       set state = 'resumed', state_since = now()
     where t.state_queue = v_queue and t.state_consumer = i_consumer_name;
    insert into pgq.consumer_action (action_queue, action_consumer, action, last_tick, note)
    values (v_queue, i_consumer_name, 'reattach', v_state.last_tick, v_state.note);
    return v_state.last_tick;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
