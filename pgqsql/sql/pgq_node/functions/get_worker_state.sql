create or replace function pgq_node.get_worker_state(
    i_queue_name text,
    out ret_code integer,
    out ret_note text,
    out node_type text,
    out node_name text,
    out completed_tick bigint,
    out provider_node text,
    out provider_location text,
    out paused boolean,
    out uptodate boolean,
    out cur_error text,
    out worker_name text,
    out global_watermark bigint,
    out local_watermark bigint,
    out local_queue_top bigint,
    out combined_queue text,
    out combined_type text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.get_worker_state(1)
    --
    --     What the worker of this node reads before each batch.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     100 - found
    --     404 - no node of this queue, or its consumer, the location of its
    --         provider or the combined node are missing; what was found so far
    --         is filled
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq_node._position(2)
    --     pgq_node._local_watermark(1)
    --     pgq_node._top_tick(1)
    --
    -- Tables:
    --     read - pgq_node.node_info, pgq_node.local_state,
    --         pgq_node.node_location
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    select n.node_type, n.node_name, n.worker_name, n.combined_queue
      into node_type, node_name, worker_name, combined_queue
      from pgq_node.node_info n
     where n.queue_name = i_queue_name;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown queue: ' || coalesce(i_queue_name, '<null>');
        return;
    end if;
    select s.last_tick_id, s.provider_node, s.paused, s.uptodate, s.cur_error
      into completed_tick, provider_node, paused, uptodate, cur_error
      from pgq_node.local_state s
     where s.queue_name = i_queue_name and s.consumer_name = worker_name;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown consumer: ' || i_queue_name || '/' || worker_name;
        return;
    end if;
    select l.node_location into provider_location
      from pgq_node.node_location l
     where l.queue_name = i_queue_name and l.node_name = get_worker_state.provider_node;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown provider: ' || i_queue_name || '/' || provider_node;
        return;
    end if;
    if combined_queue is not null then
        select n.node_type into combined_type
          from pgq_node.node_info n
         where n.queue_name = get_worker_state.combined_queue;
        if not found then
            ret_code := 404;
            ret_note := 'Combined queue without node: ' || combined_queue;
            return;
        end if;
    end if;
    if node_type = 'leaf' then
        local_watermark := completed_tick;
    else
        global_watermark := pgq_node._position(i_queue_name, '.global_watermark');
        local_watermark := pgq_node._local_watermark(i_queue_name);
        local_queue_top := pgq_node._top_tick(i_queue_name);
    end if;
    ret_code := 100;
    ret_note := 'Ok';
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
