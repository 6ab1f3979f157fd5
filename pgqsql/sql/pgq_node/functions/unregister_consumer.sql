create or replace function pgq_node.unregister_consumer(
    i_queue_name text,
    i_consumer_name text,
    out ret_code integer,
    out ret_note text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.unregister_consumer(2)
    --
    --     Removes a cascaded consumer from this node.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_consumer_name - consumer name
    --
    -- Returns:
    --     200 - gone, also when it was not there
    --     404 - no node of this queue
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq_node.node_info
    --     delete - pgq_node.local_state
    --
    -- Locks:
    --     the node's row in node_info, shared
    -- ----------------------------------------------------------------
begin
    perform 1 from pgq_node.node_info n where n.queue_name = i_queue_name for share;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown queue: ' || coalesce(i_queue_name, '<null>');
        return;
    end if;
    delete from pgq_node.local_state s where s.queue_name = i_queue_name and s.consumer_name = i_consumer_name;
    ret_code := 200;
    ret_note := 'Consumer ' || coalesce(i_consumer_name, '<null>') || ' unregistered from queue ' || i_queue_name;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
