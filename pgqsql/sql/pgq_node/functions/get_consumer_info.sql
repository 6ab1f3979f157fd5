create or replace function pgq_node.get_consumer_info(
    i_queue_name text,
    out consumer_name text,
    out provider_node text,
    out last_tick_id bigint,
    out paused boolean,
    out uptodate boolean,
    out cur_error text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.get_consumer_info(1)
    --
    --     Lists the cascaded consumers of this node, its worker among them.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     one row per consumer, by name
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read - pgq_node.local_state
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query
        select s.consumer_name, s.provider_node, s.last_tick_id, s.paused, s.uptodate, s.cur_error
          from pgq_node.local_state s
         where s.queue_name = i_queue_name
         order by 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
