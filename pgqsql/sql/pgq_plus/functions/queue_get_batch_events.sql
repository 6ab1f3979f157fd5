create or replace function pgq.queue_get_batch_events(
    i_batch_id bigint, i_caller text default pgq.caller_proof(),
    out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry integer, out ev_type text,
    out ev_data text, out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.queue_get_batch_events(2)
    --
    --     pgq.get_batch_events(1) for the role to which the consumer belongs.
    --
    --     Security definer: a right on one queue is no right on the functions and
    --     tables of all.
    --
    -- Parameters:
    --     i_batch_id - batch
    --     i_caller   - leave it out: proof of who calls
    --
    -- Returns:
    --     the events of the batch
    --
    -- Raises:
    --     insufficient_privilege - the batch is not the caller's
    --     undefined_object - the batch is not open
    --
    -- Calls:
    --     pgq._queue_batch_caller(2), pgq.get_batch_events(1)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.get_batch_events(1)
    -- ----------------------------------------------------------------
begin
    if not pgq._queue_batch_caller(i_batch_id, i_caller) then
        raise exception 'batch not found: %', coalesce(i_batch_id::text, '<null>') using errcode = 'undefined_object';
    end if;
    return query select e.* from pgq.get_batch_events(i_batch_id) e;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
