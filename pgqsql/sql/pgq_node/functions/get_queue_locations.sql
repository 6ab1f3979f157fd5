create or replace function pgq_node.get_queue_locations(
    i_queue_name text,
    out node_name text,
    out node_location text,
    out dead boolean)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.get_queue_locations(1)
    --
    --     Lists the members of the cascade that carries a queue.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     one row per member, in no order
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read - pgq_node.node_location
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query
        select l.node_name, l.node_location, l.dead from pgq_node.node_location l where l.queue_name = i_queue_name;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
