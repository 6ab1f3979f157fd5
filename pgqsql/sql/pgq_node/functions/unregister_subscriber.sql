create or replace function pgq_node.unregister_subscriber(
    i_queue_name text,
    i_remote_node_name text,
    out ret_code integer,
    out ret_note text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.unregister_subscriber(2)
    --
    --     Ends the subscription of another node: its worker and its watermark
    --     are consumers no more.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_remote_node_name - node that subscribed
    --
    -- Returns:
    --     200 - ended
    --     304 - was no subscriber
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.unregister_consumer(2)
    --
    -- Tables:
    --     delete - pgq_node.subscriber_info
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_worker    text;
    v_watermark text;
begin
    delete from pgq_node.subscriber_info s
     where s.queue_name = i_queue_name and s.subscriber_node = i_remote_node_name
    returning s.worker_name, s.watermark_name into v_worker, v_watermark;
    if not found then
        ret_code := 304;
        ret_note := 'Subscriber not found: ' || coalesce(i_queue_name, '<null>') || '/' || coalesce(i_remote_node_name, '<null>');
        return;
    end if;
    perform pgq.unregister_consumer(i_queue_name, v_worker);
    perform pgq.unregister_consumer(i_queue_name, v_watermark);
    ret_code := 200;
    ret_note := 'Subscriber unregistered: ' || i_remote_node_name;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
