create or replace function pgq.nack(i_batch_id bigint, i_event_id bigint, i_reason text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.nack(3)
    --
    --     Says that one event of an open batch could not be handled: it waits
    --     for redelivery to this consumer as the backoff policy of the queue
    --     says (options retry_backoff, retry_base, retry_cap, retry_jitter),
    --     or becomes a dead letter when it was redelivered as often as option
    --     max_retries allows. The batch stays open.
    --
    --     Security definer: consumers have no rights on pgq.retry_queue.
    --
    -- Parameters:
    --     i_batch_id - open batch
    --     i_event_id - event of that batch
    --     i_reason   - why, kept with the dead letter; may be null
    --
    -- Returns:
    --     1 - queued for redelivery
    --     2 - became a dead letter
    --     0 - this consumer has the event waiting already
    --
    -- Raises:
    --     batch not open, also because it was taken over by another member of
    --     the group; event not in the batch
    --
    -- Calls:
    --     pgq._settle_events(5)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq._settle_events(5)
    -- ----------------------------------------------------------------
begin
    return (select case when s.dead > 0 then 2 else s.queued end
              from pgq._settle_events(i_batch_id, array[i_event_id], array[i_reason], false, null) s);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
