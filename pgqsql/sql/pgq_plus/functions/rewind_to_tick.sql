create or replace function pgq.rewind_to_tick(i_queue_name text, i_consumer_name text, i_tick_id bigint)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.rewind_to_tick(3)
    --
    --     Moves a consumer to a tick. Its open batch is dropped, its retry
    --     events stay. Every tick there is can be gone to: those whose events
    --     are in a table that was truncated are deleted by the rotation.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - name of a consumer or of a cooperative group
    --     i_tick_id       - tick after which it goes on
    --
    -- Returns:
    --     i_tick_id
    --
    -- Raises:
    --     consumer not registered on the queue; the consumer is a member of a
    --     group, or an ordered group; the tick is not kept any more, or not
    --     there yet: the message says which ones are
    --
    -- Calls:
    --     pgq.register_consumer_at(3), pgq._main_consumer(2)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer, pgq.subscription, pgq.tick,
    --              pgq.slot_group
    --
    -- Locks:
    --     share lock on the queue row: waits for a rotation and holds off
    --     others. As pgq.register_consumer_at(3)
    -- ----------------------------------------------------------------
declare
    v_queue integer;
    v_sub   integer;
begin
    select q.queue_id into v_queue from pgq.queue q where q.queue_name = i_queue_name for share;
    select s.sub_id into v_sub
      from pgq.subscription s
      join pgq.consumer c on c.co_id = s.sub_consumer
     where s.sub_queue = v_queue
       and c.co_name = i_consumer_name;
    if not found then
        raise exception 'consumer % is not registered on queue %',
                coalesce(i_consumer_name, '<null>'), coalesce(i_queue_name, '<null>')
            using errcode = 'undefined_object';
    end if;
    if pgq._main_consumer(v_queue, v_sub) <> i_consumer_name then
        raise exception 'subconsumer % on queue % has no position of its own', i_consumer_name, i_queue_name
            using errcode = 'object_in_use', hint = 'Move the main consumer of its group.';
    end if;
    perform 1 from pgq.slot_group g where g.queue_id = v_queue and g.group_name = i_consumer_name;
    if found then
        raise exception 'consumer % on queue % is an ordered group, its slots have the positions', i_consumer_name, i_queue_name
            using errcode = 'object_in_use', hint = 'In one transaction drop the group, register its consumer at the tick with pgq.register_consumer_at, and create it again.';
    end if;
    if not exists (select 1 from pgq.tick t where t.tick_queue = v_queue and t.tick_id = i_tick_id) then
        raise exception 'tick not found: queue %, tick %, there are %', i_queue_name, coalesce(i_tick_id::text, '<null>'),
                (select min(t.tick_id) || ' to ' || max(t.tick_id) from pgq.tick t where t.tick_queue = v_queue)
            using errcode = 'undefined_object';
    end if;
    perform pgq.register_consumer_at(i_queue_name, i_consumer_name, i_tick_id);
    return i_tick_id;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
