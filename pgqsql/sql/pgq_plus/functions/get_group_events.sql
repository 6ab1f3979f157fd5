create or replace function pgq.get_group_events(
    in i_batch jsonb,
    out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry int4,
    out ev_type text, out ev_data text,
    out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_group_events(1)
    --
    --     All events of a batch of an ordered group in the order of ev_id, as
    --     often as wanted until it is finished.
    --
    -- Parameters:
    --     i_batch - batch of pgq.next_group_batch
    --
    -- Returns:
    --     rows of ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data,
    --     ev_extra1 to ev_extra4
    --
    -- Raises:
    --     batch gone: its slots have another owner or stand elsewhere
    --
    -- Calls:
    --     pgq._group_event_sql(1)
    --
    -- Tables:
    --     read   - data tables of the queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query execute pgq._group_event_sql(i_batch);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
