create or replace function pgq.events_retry(i_batch_id bigint, i_event_ids bigint[], i_retry_seconds integer)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.events_retry(3)
    --
    --     Puts events of an open batch into the retry queue, to be delivered
    --     again to this consumer after a delay. The batch is read once,
    --     however many they are. All or none: an id that is not in the batch
    --     fails the call. The batch stays open.
    --
    --     An event that was redelivered as often as option max_retries allows
    --     becomes a dead letter instead.
    --
    --     It is no overload of pgq.event_retry, because calls of that one with
    --     an untyped literal would become ambiguous.
    --
    --     Security definer: consumers have no rights on pgq.retry_queue.
    --
    -- Parameters:
    --     i_batch_id      - open batch
    --     i_event_ids     - events of that batch; an id named twice counts once
    --     i_retry_seconds - delay in seconds, may be negative
    --
    -- Returns:
    --     number of events queued; those already waiting and those that became
    --     dead letters do not count
    --
    -- Raises:
    --     batch not open; an event is not in the batch; array, an id or the
    --     delay is null
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
    if i_retry_seconds is null then
        raise exception 'retry delay must not be null' using errcode = 'null_value_not_allowed';
    end if;
    return (select s.queued
              from pgq._settle_events(i_batch_id, i_event_ids, null, false,
                                      make_interval(secs => i_retry_seconds)) s);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
