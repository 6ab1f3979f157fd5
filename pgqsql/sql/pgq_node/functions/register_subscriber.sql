create or replace function pgq_node.register_subscriber(
    i_queue_name text,
    i_remote_node_name text,
    i_remote_worker_name text,
    i_custom_tick_id bigint,
    out ret_code integer,
    out ret_note text,
    out global_watermark bigint)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.register_subscriber(4)
    --
    --     Makes another node a reader of this one: its worker is registered as
    --     consumer, at the given tick or at the global watermark, and
    --     .NODE.watermark as the consumer that holds what the nodes below it
    --     need.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_remote_node_name - node that subscribes
    --     i_remote_worker_name - consumer name of its worker
    --     i_custom_tick_id - tick to start at; null as said above
    --
    -- Returns:
    --     200 - registered; global_watermark is where the watermark starts
    --     401 - a leaf has no subscribers
    --     404 - no node of this queue
    --
    -- Raises:
    --     the tick is not present here; subscribed already; unknown location
    --
    -- Calls:
    --     pgq.register_consumer_at(3)
    --     pgq_node._position(2)
    --
    -- Tables:
    --     read   - pgq_node.node_info
    --     insert - pgq_node.subscriber_info
    --
    -- Locks:
    --     the node's row in node_info, shared
    -- ----------------------------------------------------------------
declare
    v_type text;
    v_name text;
    v_low  bigint;
begin
    select n.node_type into v_type from pgq_node.node_info n where n.queue_name = i_queue_name for share;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown queue: ' || coalesce(i_queue_name, '<null>');
        return;
    end if;
    if v_type = 'leaf' then
        ret_code := 401;
        ret_note := 'A leaf has no subscribers';
        return;
    end if;
    v_name := '.' || i_remote_node_name || '.watermark';
    v_low := pgq_node._position(i_queue_name, '.global_watermark');
    perform pgq.register_consumer_at(i_queue_name, v_name, v_low);
    perform pgq.register_consumer_at(i_queue_name, i_remote_worker_name, coalesce(i_custom_tick_id, v_low));
    insert into pgq_node.subscriber_info (queue_name, subscriber_node, worker_name, watermark_name)
    values (i_queue_name, i_remote_node_name, i_remote_worker_name, v_name);
    global_watermark := v_low;
    ret_code := 200;
    ret_note := 'Subscriber registered: ' || i_remote_node_name;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
