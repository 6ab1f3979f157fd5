create or replace function pgq_node.unregister_location(
    i_queue_name text,
    i_node_name text,
    out ret_code integer,
    out ret_note text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.unregister_location(2)
    --
    --     Takes a node off the list of members. If it is a subscriber of this
    --     node, that ends first. On a root the change goes to all nodes as
    --     event pgq.unregister-location, also when the node was not on the
    --     list.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_node_name - node name
    --
    -- Returns:
    --     200 - removed
    --     301 - was not on the list
    --     403 - it is this node itself, or the provider of its worker
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.insert_event(7)
    --     pgq_node.unregister_subscriber(2)
    --
    -- Tables:
    --     read   - pgq_node.node_info, pgq_node.local_state
    --     delete - pgq_node.node_location
    --
    -- Locks:
    --     the node's row in node_info
    -- ----------------------------------------------------------------
declare
    v_type     text;
    v_self     text;
    v_provider text;
begin
    select n.node_type, n.node_name, s.provider_node into v_type, v_self, v_provider
      from pgq_node.node_info n
      left join pgq_node.local_state s on s.queue_name = n.queue_name and s.consumer_name = n.worker_name
     where n.queue_name = i_queue_name
       for update of n;
    if v_self = i_node_name then
        ret_code := 403;
        ret_note := 'Node ' || i_node_name || ' is this one and cannot be unregistered from itself';
        return;
    end if;
    if v_provider = i_node_name then
        ret_code := 403;
        ret_note := 'Node ' || i_node_name || ' is the provider of this one';
        return;
    end if;

    perform pgq_node.unregister_subscriber(i_queue_name, i_node_name);
    delete from pgq_node.node_location l where l.queue_name = i_queue_name and l.node_name = i_node_name;
    if found then
        ret_code := 200;
        ret_note := 'Location of node ' || i_node_name || ' removed';
    else
        ret_code := 301;
        ret_note := 'Location not found: ' || coalesce(i_queue_name, '<null>') || '/' || coalesce(i_node_name, '<null>');
    end if;
    if v_type = 'root' then
        perform pgq.insert_event(i_queue_name, 'pgq.unregister-location', i_node_name, i_queue_name, null, null, null);
    end if;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
