create or replace function pgq_node.set_global_watermark(
    i_queue_name text,
    i_watermark bigint,
    out ret_code integer,
    out ret_note text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.set_global_watermark(2)
    --
    --     Moves the lowest tick that any node of the cascade may still need;
    --     it holds the rotation of this node. A root takes null for its own
    --     local watermark, and tells all nodes by event pgq.global-watermark.
    --
    --     A root may be told to go backwards, as the contract has it; that
    --     raises a warning.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_watermark - tick id
    --
    -- Returns:
    --     200 - moved; on a branch also when the tick is not present here, and
    --         nothing was done
    --     100 - a leaf has none
    --     404 - no node of this queue
    --     500 - null on a branch
    --
    -- Raises:
    --     root: the tick is not present
    --
    -- Calls:
    --     pgq.insert_event(7)
    --     pgq.register_consumer_at(3)
    --     pgq_node._position(2)
    --     pgq_node._local_watermark(1)
    --
    -- Tables:
    --     read   - pgq_node.node_info, pgq.queue, pgq.tick
    --     update - pgq_node.local_state
    --
    -- Locks:
    --     the node's row in node_info, the watermark's subscription row
    -- ----------------------------------------------------------------
declare
    v_type   text;
    v_worker text;
    v_tick   bigint;
begin
    select n.node_type, n.worker_name into v_type, v_worker
      from pgq_node.node_info n
     where n.queue_name = i_queue_name
       for update;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown queue: ' || coalesce(i_queue_name, '<null>');
        return;
    end if;
    if v_type = 'leaf' then
        ret_code := 100;
        ret_note := 'A leaf has no global watermark';
        return;
    end if;

    v_tick := i_watermark;
    if v_type = 'root' then
        v_tick := coalesce(v_tick, pgq_node._local_watermark(i_queue_name));
        if v_tick < pgq_node._position(i_queue_name, '.global_watermark') then
            raise warning 'global watermark of queue % goes back to tick %', i_queue_name, v_tick;
        end if;
    elsif v_tick is null then
        ret_code := 500;
        ret_note := 'A branch cannot make the global watermark up';
        return;
    elsif not exists (
        select 1
          from pgq.queue q
          join pgq.tick t on t.tick_queue = q.queue_id
         where q.queue_name = i_queue_name and t.tick_id = v_tick) then
        ret_code := 200;
        ret_note := 'Tick ' || v_tick || ' is not here, nothing moved';
        return;
    end if;

    perform pgq.register_consumer_at(i_queue_name, '.global_watermark', v_tick);
    if v_type = 'root' then
        perform pgq.insert_event(i_queue_name, 'pgq.global-watermark', v_tick::text, i_queue_name, null, null, null);
        update pgq_node.local_state s
           set last_tick_id = v_tick
         where s.queue_name = i_queue_name and s.consumer_name = v_worker;
    end if;
    ret_code := 200;
    ret_note := 'Global watermark set to ' || v_tick;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
