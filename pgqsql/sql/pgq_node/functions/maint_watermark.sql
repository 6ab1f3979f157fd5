create or replace function pgq_node.maint_watermark(i_queue_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.maint_watermark(1)
    --
    --     Maintenance on a root: publishes the global watermark when the last
    --     time is five minutes ago or more.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     0
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.get_consumer_info(2)
    --     pgq_node.set_global_watermark(2)
    --
    -- Tables:
    --     read - pgq_node.node_info
    --
    -- Locks:
    --     what setting the watermark locks
    -- ----------------------------------------------------------------
begin
    perform 1
       from pgq_node.node_info n
       join pgq.get_consumer_info(i_queue_name, '.global_watermark') c on c.lag >= '5 minutes'::interval
      where n.queue_name = i_queue_name and n.node_type = 'root';
    if found then
        perform pgq_node.set_global_watermark(i_queue_name, null);
    end if;
    return 0;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_node, pg_temp;
