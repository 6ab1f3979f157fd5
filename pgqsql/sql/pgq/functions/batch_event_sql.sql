create or replace function pgq.batch_event_sql(x_batch_id bigint)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.batch_event_sql(1)
    --
    --     Text of the query that gives the events of a batch: those whose
    --     transaction is not visible in the snapshot of the start tick and is
    --     visible in the snapshot of the end tick.
    --
    --     Most of them lie in one range of txids. Transactions that were open
    --     at the start tick and have ended since are looked up one by one,
    --     unless they are so near that the range is extended over them.
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
    --     pgq.batch_event_tables(1)
    --
    -- Tables:
    --     read   - pgq.subscription, pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_batch record;
    v_first bigint;     -- start of the range
    v_old   bigint[];   -- transactions below the range
    v_where text;
    v_table text;
    v_parts text[] := '{}';
begin
    select s.sub_id, prev.tick_snapshot as s1, cur.tick_snapshot as s2,
           txid_snapshot_xmax(prev.tick_snapshot) as xmax1,
           txid_snapshot_xmax(cur.tick_snapshot) as xmax2
      into v_batch
      from pgq.subscription s
      join pgq.tick prev on prev.tick_queue = s.sub_queue and prev.tick_id = s.sub_last_tick
      join pgq.tick cur on cur.tick_queue = s.sub_queue and cur.tick_id = s.sub_next_tick
     where s.sub_batch = x_batch_id;
    if not found then
        raise exception 'batch not found: %', coalesce(x_batch_id::text, '<null>')
            using errcode = 'undefined_object';
    end if;

    select coalesce(min(x) filter (where x >= v_batch.xmax1 - 100), v_batch.xmax1),
           array_agg(x order by x) filter (where x < v_batch.xmax1 - 100)
      into v_first, v_old
      from txid_snapshot_xip(v_batch.s1) x
     where txid_visible_in_snapshot(x, v_batch.s2);

    v_where := format('not pg_catalog.txid_visible_in_snapshot(ev_txid, %L::pg_catalog.txid_snapshot)'
                      ' and pg_catalog.txid_visible_in_snapshot(ev_txid, %L::pg_catalog.txid_snapshot)'
                      ' and (ev_owner is null or ev_owner = %s)',
                      v_batch.s1, v_batch.s2, v_batch.sub_id);
    for v_table in select pgq.batch_event_tables(x_batch_id) loop
        v_parts := v_parts || format(
            'select ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4'
            ' from %s where ev_txid >= %s and ev_txid < %s and %s',
            v_table, v_first, v_batch.xmax2, v_where);
        if v_old is not null then
            v_parts := v_parts || format(
                'select ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4'
                ' from %s where ev_txid = any (%L::bigint[]) and %s',
                v_table, v_old, v_where);
        end if;
    end loop;
    return array_to_string(v_parts, ' union all ') || ' order by 1';
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
