create or replace function pgq_node.get_consumer_state(
    i_queue_name text,
    i_consumer_name text,
    out ret_code integer,
    out ret_note text,
    out node_type text,
    out node_name text,
    out completed_tick bigint,
    out provider_node text,
    out provider_location text,
    out paused boolean,
    out uptodate boolean,
    out cur_error text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.get_consumer_state(2)
    --
    --     What a cascaded consumer of this node reads before each batch.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_consumer_name - consumer name
    --
    -- Returns:
    --     100 - found
    --     404 - no node of this queue; or no such consumer, or no location of
    --         its provider: what was found so far is filled
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read - pgq_node.node_info, pgq_node.local_state,
    --         pgq_node.node_location
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    select n.node_type, n.node_name into node_type, node_name from pgq_node.node_info n where n.queue_name = i_queue_name;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown queue: ' || coalesce(i_queue_name, '<null>');
        return;
    end if;
    select s.last_tick_id, s.provider_node, s.paused, s.uptodate, s.cur_error
      into completed_tick, provider_node, paused, uptodate, cur_error
      from pgq_node.local_state s
     where s.queue_name = i_queue_name and s.consumer_name = i_consumer_name;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown consumer: ' || i_queue_name || '/' || coalesce(i_consumer_name, '<null>');
        return;
    end if;
    select l.node_location into provider_location
      from pgq_node.node_location l
     where l.queue_name = i_queue_name and l.node_name = get_consumer_state.provider_node;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown provider: ' || i_queue_name || '/' || provider_node;
        return;
    end if;
    ret_code := 100;
    ret_note := 'Ok';
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
