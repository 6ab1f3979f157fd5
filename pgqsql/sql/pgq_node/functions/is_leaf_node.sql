create or replace function pgq_node.is_leaf_node(i_queue_name text)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.is_leaf_node(1)
    --
    --     Tells whether the node of a queue in this database is a leaf.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     true or false
    --
    -- Raises:
    --     unknown queue
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read - pgq_node.node_info
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_is boolean;
begin
    select n.node_type = 'leaf' into v_is from pgq_node.node_info n where n.queue_name = i_queue_name;
    if not found then
        raise exception 'queue has no node in this database: %', coalesce(i_queue_name, '<null>')
            using errcode = 'undefined_object';
    end if;
    return v_is;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_node, pg_temp;
