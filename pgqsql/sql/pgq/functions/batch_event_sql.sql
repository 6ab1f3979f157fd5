create or replace function pgq.batch_event_sql(x_batch_id bigint)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.batch_event_sql(1)
    --
    --     Text of the query that gives the events of a batch: those whose
    --     transaction is not visible in the snapshot of the start tick and is
    --     visible in the snapshot of the end tick.
    --
    -- Parameters:
    --     x_batch_id - open batch
    --
    -- Returns:
    --     SELECT of the ten event columns in the order of ev_id
    --
    -- Raises:
    --     batch not open
    --
    -- Calls:
    --     pgq._batch_range(1)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_batch record;
    v_where text;
    v_table text;
    v_parts text[] := '{}';
begin
    select r.* into v_batch from pgq._batch_range(x_batch_id) r;
    -- Few transactions need a look into a snapshot: none above the first one, none below all open ones of the second.
    v_where := format('(ev_txid >= %s or not pg_catalog.txid_visible_in_snapshot(ev_txid, %L::pg_catalog.txid_snapshot))'
                      ' and (ev_txid < %s or pg_catalog.txid_visible_in_snapshot(ev_txid, %L::pg_catalog.txid_snapshot))'
                      ' and (ev_owner is null or ev_owner = %s)',
                      txid_snapshot_xmax(v_batch.first_snapshot), v_batch.first_snapshot,
                      txid_snapshot_xmin(v_batch.last_snapshot), v_batch.last_snapshot, v_batch.sub_id);
    foreach v_table in array v_batch.tables loop
        v_parts := v_parts || format(
            'select ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4'
            ' from %s where ev_txid >= %s and ev_txid < %s and %s',
            v_table, v_batch.first_txid, v_batch.end_txid, v_where);
        if v_batch.old_txids is not null then
            v_parts := v_parts || format(
                'select ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4'
                ' from %s where ev_txid = any (%L::bigint[]) and %s',
                v_table, v_batch.old_txids, v_where);
        end if;
    end loop;
    return array_to_string(v_parts, ' union all ') || ' order by 1';
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
