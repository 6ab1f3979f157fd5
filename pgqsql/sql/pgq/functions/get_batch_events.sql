create or replace function pgq.get_batch_events(
    in x_batch_id bigint,
    out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry int4,
    out ev_type text, out ev_data text,
    out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_batch_events(1)
    --
    --     All events of an open batch in the order of ev_id, as often as
    --     wanted. The whole batch is held in memory or temporary files; for
    --     big batches use pgq.get_batch_cursor.
    --
    -- Parameters:
    --     x_batch_id - open batch
    --
    -- Returns:
    --     rows of ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data,
    --     ev_extra1 to ev_extra4
    --
    -- Raises:
    --     batch not open
    --
    -- Calls:
    --     pgq.batch_event_sql(1)
    --
    -- Tables:
    --     read   - data tables of the queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query execute pgq.batch_event_sql(x_batch_id);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
