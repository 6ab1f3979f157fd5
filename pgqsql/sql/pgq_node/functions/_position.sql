create or replace function pgq_node._position(i_queue_name text, i_consumer_name text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node._position(2)
    --
    --     Position of a consumer on a queue of this database.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_consumer_name - consumer name
    --
    -- Returns:
    --     tick id; null when it is not registered
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read - pgq.queue, pgq.consumer, pgq.subscription
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return (select s.sub_last_tick
              from pgq.queue q
              join pgq.subscription s on s.sub_queue = q.queue_id
              join pgq.consumer c on c.co_id = s.sub_consumer
             where q.queue_name = i_queue_name and c.co_name = i_consumer_name);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_node, pg_temp;
