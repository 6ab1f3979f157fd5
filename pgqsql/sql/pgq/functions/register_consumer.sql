create or replace function pgq.register_consumer(x_queue_name text, x_consumer_id text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.register_consumer(2)
    --
    --     Subscribes a consumer to a queue at the newest tick. It sees the
    --     events that become visible after that tick, so register consumers
    --     before producers start.
    --
    -- Parameters:
    --     x_queue_name  - queue name
    --     x_consumer_id - consumer name
    --
    -- Returns:
    --     1 - registered
    --     0 - was registered already; position and open batch are untouched
    --
    -- Raises:
    --     queue not found; queue has no tick
    --
    -- Calls:
    --     pgq.register_consumer_at(3)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.register_consumer_at(3)
    -- ----------------------------------------------------------------
begin
    return pgq.register_consumer_at(x_queue_name, x_consumer_id, null);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
