create or replace function pgq_node.drop_node(
    i_queue_name text,
    i_node_name text,
    out ret_code integer,
    out ret_note text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.drop_node(2)
    --
    --     Removes a node; it is called on every member. On the node itself,
    --     and where there is no node of the queue, everything about the queue
    --     goes: subscribers, consumers, the queue with its events, and all
    --     locations. Elsewhere the node's subscription and location go.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_node_name - node name
    --
    -- Returns:
    --     200 - gone, also when nothing was there
    --     405 - the node is the provider of this one
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.drop_queue(2)
    --     pgq_node.unregister_subscriber(2)
    --     pgq_node.unregister_location(2)
    --
    -- Tables:
    --     read   - pgq.queue
    --     delete - pgq_node.subscriber_info, pgq_node.local_state,
    --         pgq_node.node_info, pgq_node.node_location
    --
    -- Locks:
    --     the node's row in node_info; what dropping a queue locks
    -- ----------------------------------------------------------------
declare
    v_self     text;
    v_provider text;
    v_known    boolean;
begin
    select n.node_name, s.provider_node into v_self, v_provider
      from pgq_node.node_info n
      left join pgq_node.local_state s on s.queue_name = n.queue_name and s.consumer_name = n.worker_name
     where n.queue_name = i_queue_name
       for update of n;
    v_known := found;
    if v_known and v_self <> i_node_name then
        if v_provider = i_node_name then
            ret_code := 405;
            ret_note := 'Node ' || i_node_name || ' is the provider of this one and cannot be dropped';
            return;
        end if;
        perform pgq_node.unregister_subscriber(i_queue_name, i_node_name);
        perform pgq_node.unregister_location(i_queue_name, i_node_name);
    else
        delete from pgq_node.subscriber_info s where s.queue_name = i_queue_name;
        delete from pgq_node.local_state s where s.queue_name = i_queue_name;
        delete from pgq_node.node_info n where n.queue_name = i_queue_name;
        if exists (select 1 from pgq.queue q where q.queue_name = i_queue_name) then
            perform pgq.drop_queue(i_queue_name, true);
        end if;
        delete from pgq_node.node_location l where l.queue_name = i_queue_name;
    end if;
    ret_code := 200;
    ret_note := 'Node ' || coalesce(i_node_name, '<null>') || ' dropped';
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
