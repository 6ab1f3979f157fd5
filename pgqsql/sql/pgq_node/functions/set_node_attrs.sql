create or replace function pgq_node.set_node_attrs(
    i_queue_name text,
    i_node_attrs text,
    out ret_code integer,
    out ret_note text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.set_node_attrs(2)
    --
    --     Sets the attributes of the node of this database.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_node_attrs - url-encoded attributes
    --
    -- Returns:
    --     200 - set
    --     404 - no node of this queue
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     update - pgq_node.node_info
    --
    -- Locks:
    --     the node's row in node_info
    -- ----------------------------------------------------------------
begin
    update pgq_node.node_info n set node_attrs = i_node_attrs where n.queue_name = i_queue_name;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown queue: ' || coalesce(i_queue_name, '<null>');
        return;
    end if;
    ret_code := 200;
    ret_note := 'Node attributes set';
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
