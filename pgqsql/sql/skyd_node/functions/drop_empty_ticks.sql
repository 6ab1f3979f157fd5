create or replace function skyd_node.drop_empty_ticks(i_queue_name text, i_tick_id bigint)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: skyd_node.drop_empty_ticks(2)
    --
    --     Removes the ticks behind the final tick of a closed queue. There are
    --     some only if a ticker had read that the queue is open, stood still
    --     while it was closed, and then went on; their batches are empty, and
    --     the new root gives their ids to others.
    --
    --     Security definer: the tables belong to the installing role.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_tick_id - final tick
    --
    -- Returns:
    --     number of ticks removed
    --
    -- Raises:
    --     object_not_in_prerequisite_state - the queue is open, or a batch
    --         behind the final tick has events
    --
    -- Calls:
    --     skyd_node.digest(3)
    --
    -- Tables:
    --     read   - pgq.queue
    --     update - pgq.subscription
    --     delete - pgq.tick
    --
    -- Locks:
    --     the rows
    -- ----------------------------------------------------------------
declare
    v_queue pgq.queue%rowtype;
    v_top   bigint;
    v_count integer;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    select max(t.tick_id) into v_top from pgq.tick t where t.tick_queue = v_queue.queue_id;
    if v_top <= i_tick_id then
        return 0;
    end if;
    if not v_queue.queue_disable_insert
            or (select d.events from skyd_node.digest(i_queue_name, i_tick_id, v_top) d) > 0 then
        raise exception 'queue % has events behind tick %', i_queue_name, i_tick_id
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    update pgq.subscription s
       set sub_last_tick = i_tick_id, sub_batch = null, sub_next_tick = null
     where s.sub_queue = v_queue.queue_id and s.sub_last_tick > i_tick_id;
    update pgq.subscription s
       set sub_batch = null, sub_next_tick = null
     where s.sub_queue = v_queue.queue_id and s.sub_next_tick > i_tick_id;
    delete from pgq.tick t where t.tick_queue = v_queue.queue_id and t.tick_id > i_tick_id;
    get diagnostics v_count = row_count;
    return v_count;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, skyd_node, pg_temp;
