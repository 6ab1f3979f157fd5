create or replace function pgq.nack_events(
    i_batch_id bigint, i_event_ids bigint[], i_reasons text[],
    out queued integer, out dead integer)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.nack_events(3)
    --
    --     The same as pgq.nack for many events, with one read of the batch.
    --     All or none.
    --
    --     Security definer: consumers have no rights on pgq.retry_queue.
    --
    -- Parameters:
    --     i_batch_id  - open batch
    --     i_event_ids - events of that batch
    --     i_reasons   - one for each event, or one for all of them; may be null
    --
    -- Returns:
    --     queued - how many wait for redelivery now
    --     dead   - how many became dead letters
    --
    -- Raises:
    --     batch not open; an event is not in the batch; null ids; as many
    --     reasons as neither events nor one
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
    select s.queued, s.dead into queued, dead
      from pgq._settle_events(i_batch_id, i_event_ids, i_reasons, false, null) s;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
