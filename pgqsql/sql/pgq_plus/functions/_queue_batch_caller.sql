create or replace function pgq._queue_batch_caller(i_batch_id bigint, i_caller text)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._queue_batch_caller(2)
    --
    --     Lets those pass who may act for the consumer whose batch this is.
    --
    --     Called under a pinned search path only.
    --
    -- Parameters:
    --     i_batch_id - batch
    --     i_caller   - pgq.caller_proof() of the caller
    --
    -- Returns:
    --     true  - the batch is open
    --     false - it is not, and nobody's: nothing may be done with it
    --
    -- Raises:
    --     insufficient_privilege - the batch is not the caller's
    --
    -- Calls:
    --     pgq.get_batch_info(1), pgq._queue_consumer_caller(3)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_batch record;
begin
    select b.queue_name, b.consumer_name into v_batch from pgq.get_batch_info(i_batch_id) b;
    if v_batch.queue_name is null then
        return false;
    end if;
    perform pgq._queue_consumer_caller(v_batch.queue_name, v_batch.consumer_name, i_caller);
    return true;
end;
$$ language plpgsql volatile;
