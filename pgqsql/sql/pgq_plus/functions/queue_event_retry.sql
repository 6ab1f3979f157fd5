create or replace function pgq.queue_event_retry(
    i_batch_id bigint, i_event_id bigint, i_retry_seconds integer, i_caller text default pgq.caller_proof())
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.queue_event_retry(4)
    --
    --     pgq.event_retry(3) for the role to which the consumer belongs.
    --
    --     Security definer: a right on one queue is no right on the functions and
    --     tables of all.
    --
    -- Parameters:
    --     i_batch_id      - batch
    --     i_event_id      - event of it
    --     i_retry_seconds - delay
    --     i_caller        - leave it out: proof of who calls
    --
    -- Returns:
    --     as pgq.event_retry(3)
    --
    -- Raises:
    --     insufficient_privilege - the batch is not the caller's
    --     undefined_object - the batch is not open
    --     otherwise as pgq.event_retry(3)
    --
    -- Calls:
    --     pgq._queue_batch_caller(2), pgq.event_retry(3)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.event_retry(3)
    -- ----------------------------------------------------------------
begin
    if not pgq._queue_batch_caller(i_batch_id, i_caller) then
        raise exception 'batch not found: %', coalesce(i_batch_id::text, '<null>') using errcode = 'undefined_object';
    end if;
    return pgq.event_retry(i_batch_id, i_event_id, i_retry_seconds);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
