create or replace function pgq_node.get_subscriber_info(
    i_queue_name text,
    out node_name text,
    out worker_name text,
    out node_watermark bigint)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.get_subscriber_info(1)
    --
    --     Lists the nodes that read from this one.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     one row per subscriber, by name; node_watermark is the lowest tick
    --         needed below it, as it reported
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq_node._position(2)
    --
    -- Tables:
    --     read - pgq_node.subscriber_info
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query
        select s.subscriber_node, s.worker_name, pgq_node._position(i_queue_name, s.watermark_name)
          from pgq_node.subscriber_info s
         where s.queue_name = i_queue_name
         order by 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
