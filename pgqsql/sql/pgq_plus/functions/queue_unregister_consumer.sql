create or replace function pgq.queue_unregister_consumer(
    i_queue_name text, i_consumer_name text, i_caller text default pgq.caller_proof())
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.queue_unregister_consumer(3)
    --
    --     pgq.unregister_consumer(2) for the role to which the consumer belongs.
    --
    --     Security definer: a right on one queue is no right on the functions and
    --     tables of all.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - consumer name
    --     i_caller        - leave it out: proof of who calls
    --
    -- Returns:
    --     as pgq.unregister_consumer(2)
    --
    -- Raises:
    --     insufficient_privilege - no right read on the queue, or the consumer
    --     is not the caller's
    --
    -- Calls:
    --     pgq._queue_consumer_caller(3), pgq.unregister_consumer(2)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.unregister_consumer(2)
    -- ----------------------------------------------------------------
begin
    perform pgq._queue_consumer_caller(i_queue_name, i_consumer_name, i_caller);
    return pgq.unregister_consumer(i_queue_name, i_consumer_name);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
