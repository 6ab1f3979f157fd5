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
    --     wanted. It runs the query of pgq.batch_event_sql, with parameters.
    --     The whole batch is held in memory or temporary files; for
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
    --     pgq._batch_range(1)
    --
    -- Tables:
    --     read   - data tables of the queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_batch record;
    v_table text;
    v_sql   text;
begin
    select r.* into v_batch from pgq._batch_range(x_batch_id) r;
    -- Few transactions need a look into a snapshot: none above the first one, none below all open ones of the second.
    foreach v_table in array v_batch.tables loop
        v_sql := coalesce(v_sql || ' union all ', '')
            || 'select ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4'
               ' from ' || v_table ||
               ' where ev_txid >= $1 and ev_txid < $2'
               ' and (ev_txid >= $7 or not pg_catalog.txid_visible_in_snapshot(ev_txid, $3))'
               ' and (ev_txid < $8 or pg_catalog.txid_visible_in_snapshot(ev_txid, $4))'
               ' and (ev_owner is null or ev_owner = $5)';
        if v_batch.old_txids is not null then
            v_sql := v_sql
                || ' union all'
                   ' select ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4'
                   ' from ' || v_table || ' where ev_txid = any ($6) and (ev_owner is null or ev_owner = $5)';
        end if;
    end loop;
    return query execute v_sql || ' order by 1'
        using v_batch.first_txid, v_batch.end_txid, v_batch.first_snapshot, v_batch.last_snapshot,
              v_batch.sub_id, v_batch.old_txids,
              txid_snapshot_xmax(v_batch.first_snapshot), txid_snapshot_xmin(v_batch.last_snapshot);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
