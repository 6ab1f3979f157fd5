create or replace function pgq.events_dead(i_batch_id bigint, i_event_ids bigint[], i_reasons text[])
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.events_dead(3)
    --
    --     Makes events of an open batch dead letters at once, whatever
    --     max_retries says. All or none. The batch stays open.
    --
    --     Security definer: consumers may not write pgq.dead_letter.
    --
    -- Parameters:
    --     i_batch_id  - open batch
    --     i_event_ids - events of that batch
    --     i_reasons   - one for each event, or one for all of them; may be null
    --
    -- Returns:
    --     number of dead letters made; events that wait for redelivery to this
    --     consumer already are left to that
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
    return (select s.dead from pgq._settle_events(i_batch_id, i_event_ids, i_reasons, true, null) s);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
