create or replace function pgq_node._local_watermark(i_queue_name text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node._local_watermark(1)
    --
    --     Lowest tick that anything on the queue of this node still needs: the
    --     lowest position of all its consumers but .global_watermark, the
    --     newest tick when there is none.
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
    --     pgq_node._top_tick(1)
    --
    -- Tables:
    --     read - pgq.queue, pgq.consumer, pgq.subscription, pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_low bigint;
begin
    select min(s.sub_last_tick) into v_low
      from pgq.queue q
      join pgq.subscription s on s.sub_queue = q.queue_id
      join pgq.consumer c on c.co_id = s.sub_consumer
     where q.queue_name = i_queue_name and c.co_name <> '.global_watermark';
    return coalesce(v_low, pgq_node._top_tick(i_queue_name));
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_node, pg_temp;
