create or replace function pgq.queue_finish_batch(
    i_batch_id bigint, i_caller text default pgq.caller_proof())
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.queue_finish_batch(2)
    --
    --     pgq.finish_batch(1) for the role to which the consumer belongs.
    --
    --     Security definer: a right on one queue is no right on the functions and
    --     tables of all.
    --
    -- Parameters:
    --     i_batch_id - batch
    --     i_caller   - leave it out: proof of who calls
    --
    -- Returns:
    --     1 - closed
    --     0 - not open, with a warning
    --
    -- Raises:
    --     insufficient_privilege - the batch is not the caller's
    --
    -- Calls:
    --     pgq._queue_batch_caller(2), pgq.finish_batch(1)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.finish_batch(1)
    -- ----------------------------------------------------------------
begin
    -- a batch that is not open now may be opened by somebody else before the call
    if not pgq._queue_batch_caller(i_batch_id, i_caller) then
        raise warning 'finish_batch: batch % is not open', coalesce(i_batch_id::text, '<null>');
        return 0;
    end if;
    return pgq.finish_batch(i_batch_id);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
