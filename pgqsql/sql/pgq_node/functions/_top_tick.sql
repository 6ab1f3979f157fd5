create or replace function pgq_node._top_tick(i_queue_name text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node._top_tick(1)
    --
    --     Newest tick of a queue.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     tick id; null for an unknown queue
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read - pgq.queue, pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return (select t.tick_id
              from pgq.queue q
              join pgq.tick t on t.tick_queue = q.queue_id
             where q.queue_name = i_queue_name
             order by t.tick_id desc
             limit 1);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_node, pg_temp;
