create or replace function pgq._batch_event(
    in i_batch_id bigint, in i_event_id bigint,
    out ev_id bigint, out ev_time timestamptz, out ev_retry integer, out ev_type text, out ev_data text,
    out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._batch_event(2)
    --
    --     Finds one event of a batch without reading the batch. There is no
    --     index on event ids, but a table is filled about in their order: the
    --     place is found by halving, and what is not near it (copies for
    --     redelivery, ids that were given by hand) by the query of the batch.
    --
    -- Parameters:
    --     i_batch_id - open batch
    --     i_event_id - event
    --
    -- Returns:
    --     the event; all null when it is not in the batch
    --
    -- Raises:
    --     batch not open
    --
    -- Calls:
    --     pgq._batch_range(1), pgq.batch_event_sql(1)
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
    v_low   bigint;
    v_high  bigint;
    v_page  bigint;
    v_first bigint;
begin
    select r.* into v_batch from pgq._batch_range(i_batch_id) r;
    foreach v_table in array v_batch.tables loop
        v_low := 0;
        v_high := pg_relation_size(v_table::regclass) / current_setting('block_size')::bigint;
        continue when v_high <= 8;
        while v_high - v_low > 1 loop
            -- the lowest: small events fill gaps of pages before
            v_page := (v_low + v_high) / 2;
            execute format('select min(e.ev_id) from %s e where e.ctid >= $1 and e.ctid < $2 and e.ev_owner is null', v_table)
               into v_first
              using format('(%s,0)', v_page)::tid, format('(%s,0)', v_page + 1)::tid;
            if v_first <= i_event_id then
                v_low := v_page;
            else
                v_high := v_page;
            end if;
        end loop;
        execute format('select e.ev_id, e.ev_time, e.ev_retry, e.ev_type, e.ev_data,'
                       ' e.ev_extra1, e.ev_extra2, e.ev_extra3, e.ev_extra4'
                       ' from %s e where e.ctid >= $1 and e.ctid < $2 and e.ev_id = $3'
                       ' and not pg_catalog.txid_visible_in_snapshot(e.ev_txid, $4)'
                       ' and pg_catalog.txid_visible_in_snapshot(e.ev_txid, $5)'
                       ' and (e.ev_owner is null or e.ev_owner = $6) limit 1', v_table)
           into ev_id, ev_time, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4
          using format('(%s,0)', greatest(v_low - 8, 0))::tid, format('(%s,0)', v_high + 2)::tid, i_event_id,
                v_batch.first_snapshot, v_batch.last_snapshot, v_batch.sub_id;
        if ev_id is not null then
            return;
        end if;
    end loop;
    execute 'select ev_id, ev_time, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4 from ('
            || pgq.batch_event_sql(i_batch_id) || ') ev where ev_id = $1 limit 1'
       into ev_id, ev_time, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4
      using i_event_id;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp set enable_seqscan = off;
