create or replace function pgq_node.get_node_info(
    i_queue_name text,
    out ret_code integer,
    out ret_note text,
    out node_type text,
    out node_name text,
    out global_watermark bigint,
    out local_watermark bigint,
    out provider_node text,
    out provider_location text,
    out combined_queue text,
    out combined_type text,
    out worker_name text,
    out worker_paused boolean,
    out worker_uptodate boolean,
    out worker_last_tick bigint,
    out node_attrs text,
    out target_for text[])
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.get_node_info(1)
    --
    --     All about the node of a queue in this database.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     100 - found; worker_last_tick of a root is its newest tick;
    --         combined_queue is null when its node is not there; target_for
    --         lists the queues whose leafs write here, null when there are
    --         none
    --     404 - no node of this queue; all else is null
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
    select 100, 'Ok', n.node_type, n.node_name, s.provider_node, l.node_location, c.queue_name, c.node_type,
           n.worker_name, s.paused, s.uptodate, s.last_tick_id, n.node_attrs
      into ret_code, ret_note, node_type, node_name, provider_node, provider_location, combined_queue, combined_type,
           worker_name, worker_paused, worker_uptodate, worker_last_tick, node_attrs
      from pgq_node.node_info n
      left join pgq_node.node_info c on c.queue_name = n.combined_queue
      left join pgq_node.local_state s on s.queue_name = n.queue_name and s.consumer_name = n.worker_name
      left join pgq_node.node_location l on l.queue_name = s.queue_name and l.node_name = s.provider_node
     where n.queue_name = i_queue_name;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown queue: ' || coalesce(i_queue_name, '<null>');
        return;
    end if;
    if node_type = 'leaf' then
        local_watermark := worker_last_tick;
        return;
    end if;
    global_watermark := pgq_node._position(i_queue_name, '.global_watermark');
    local_watermark := pgq_node._local_watermark(i_queue_name);
    if node_type = 'root' then
        worker_last_tick := pgq_node._top_tick(i_queue_name);
    end if;
    select array_agg(n.queue_name order by n.queue_name) into target_for
      from pgq_node.node_info n
     where n.combined_queue = i_queue_name;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
