create or replace function pgq_node.register_consumer(
    i_queue_name text,
    i_consumer_name text,
    i_provider_node text,
    i_custom_tick_id bigint,
    out ret_code integer,
    out ret_note text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.register_consumer(4)
    --
    --     Adds a cascaded consumer to this node: from then on its position is
    --     kept here.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_consumer_name - consumer name
    --     i_provider_node - node it reads from
    --     i_custom_tick_id - tick it starts after
    --
    -- Returns:
    --     200 - added
    --     201 - was there: provider and tick are overwritten, its flags stay
    --     404 - no node of this queue
    --
    -- Raises:
    --     tick is null; unknown provider
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq_node.node_info
    --     insert, update - pgq_node.local_state
    --
    -- Locks:
    --     the node's row in node_info, shared; the consumer's row
    -- ----------------------------------------------------------------
begin
    perform 1 from pgq_node.node_info n where n.queue_name = i_queue_name for share;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown queue: ' || coalesce(i_queue_name, '<null>');
        return;
    end if;
    update pgq_node.local_state s
       set provider_node = i_provider_node, last_tick_id = i_custom_tick_id
     where s.queue_name = i_queue_name and s.consumer_name = i_consumer_name;
    if found then
        ret_code := 201;
        ret_note := 'Consumer was registered, provider and tick are set';
        return;
    end if;
    insert into pgq_node.local_state (queue_name, consumer_name, provider_node, last_tick_id)
    values (i_queue_name, i_consumer_name, i_provider_node, i_custom_tick_id);
    ret_code := 200;
    ret_note := 'Consumer ' || i_consumer_name || ' registered on queue ' || i_queue_name;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
