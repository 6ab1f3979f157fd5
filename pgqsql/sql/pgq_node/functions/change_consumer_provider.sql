create or replace function pgq_node.change_consumer_provider(
    i_queue_name text,
    i_consumer_name text,
    i_new_provider text,
    out ret_code integer,
    out ret_note text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.change_consumer_provider(3)
    --
    --     Tells a cascaded consumer to read from another node. Its row counts
    --     as unread until it confirms.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_consumer_name - consumer name
    --     i_new_provider - node to read from now on
    --
    -- Returns:
    --     200 - changed
    --     404 - no such consumer or no such node
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq_node.node_location
    --     update - pgq_node.local_state
    --
    -- Locks:
    --     the consumer's row
    -- ----------------------------------------------------------------
begin
    perform 1 from pgq_node.node_location l where l.queue_name = i_queue_name and l.node_name = i_new_provider;
    if not found then
        ret_code := 404;
        ret_note := 'New provider is not a member: ' || coalesce(i_queue_name, '<null>') || '/' || coalesce(i_new_provider, '<null>');
        return;
    end if;
    update pgq_node.local_state s
       set provider_node = i_new_provider, uptodate = false
     where s.queue_name = i_queue_name and s.consumer_name = i_consumer_name;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown consumer: ' || i_queue_name || '/' || coalesce(i_consumer_name, '<null>');
        return;
    end if;
    ret_code := 200;
    ret_note := 'Consumer ' || i_consumer_name || ' reads from ' || i_new_provider;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
