create or replace function pgq_node.register_location(
    i_queue_name text,
    i_node_name text,
    i_node_location text,
    i_dead boolean,
    out ret_code integer,
    out ret_note text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.register_location(4)
    --
    --     Adds a member of the cascade to the list of nodes, or changes it. On
    --     a root the change goes to all nodes as event pgq.location-info, also
    --     when nothing was changed.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_node_name - node name
    --     i_node_location - libpq connect string; null keeps the known one
    --     i_dead - the node counts as dead
    --
    -- Returns:
    --     200 - done; a null location for an unknown node adds nothing
    --
    -- Raises:
    --     a null where the table has none
    --
    -- Calls:
    --     pgq.insert_event(7)
    --
    -- Tables:
    --     read   - pgq_node.node_info
    --     insert, update - pgq_node.node_location
    --
    -- Locks:
    --     the node's row in node_info, against changes of the node meanwhile
    -- ----------------------------------------------------------------
declare
    v_type text;
begin
    select n.node_type into v_type
      from pgq_node.node_info n
     where n.queue_name = i_queue_name
       for update;

    update pgq_node.node_location l
       set node_location = coalesce(i_node_location, l.node_location), dead = i_dead
     where l.queue_name = i_queue_name and l.node_name = i_node_name;
    if not found and i_node_location is not null then
        insert into pgq_node.node_location as l (queue_name, node_name, node_location, dead)
        values (i_queue_name, i_node_name, i_node_location, i_dead)
        on conflict (queue_name, node_name) do update
        set node_location = excluded.node_location, dead = excluded.dead;
    end if;
    if v_type = 'root' then
        perform pgq.insert_event(i_queue_name, 'pgq.location-info', i_node_name, i_queue_name, i_node_location,
                                 i_dead::text, null);
    end if;
    ret_code := 200;
    ret_note := 'Location of node ' || i_node_name || ' registered';
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
