create or replace function pgq._batch_range(
    in i_batch_id bigint,
    out sub_id integer, out sub_queue integer, out first_snapshot txid_snapshot, out last_snapshot txid_snapshot,
    out first_txid bigint, out end_txid bigint, out old_txids bigint[], out tables text[])
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._batch_range(1)
    --
    --     Says where the events of a batch are: those whose transaction is not
    --     visible in the snapshot of the start tick and is visible in the one
    --     of the end tick.
    --
    --     Most of them lie in one range of txids. Transactions that were open
    --     at the start tick and have ended since are looked up one by one,
    --     unless they are so near that the range is extended over them.
    --
    --     The previous data table is read when the batch reaches below the
    --     last rotation (step 2 is above every transaction that wrote there),
    --     the current one when it reaches above (a transaction that wrote
    --     there and is visible at the batch's end committed after step 1).
    --
    -- Parameters:
    --     i_batch_id - open batch
    --
    -- Returns:
    --     owner id of the subscription, queue, both snapshots, the range
    --     first_txid <= ev_txid < end_txid, the transactions below it (null:
    --     none), and the data tables, one or two
    --
    -- Raises:
    --     batch not open
    --
    -- Calls:
    --     pgq._find_batch(1)
    --
    -- Tables:
    --     read   - pgq.subscription, pgq.queue, pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_sub   record;
    v_queue record;
begin
    -- one look-up at a time: a join might begin with all the ticks
    select f.* into v_sub from pgq._find_batch(i_batch_id) f;
    select prev.tick_snapshot, cur.tick_snapshot into first_snapshot, last_snapshot
      from pgq.tick prev
     cross join pgq.tick cur
     where prev.tick_queue = v_sub.sub_queue and prev.tick_id = v_sub.sub_last_tick
       and cur.tick_queue = v_sub.sub_queue and cur.tick_id = v_sub.sub_next_tick;
    if not found then
        raise exception 'batch not found: %', coalesce(i_batch_id::text, '<null>')
            using errcode = 'undefined_object';
    end if;

    sub_id := v_sub.sub_id;
    sub_queue := v_sub.sub_queue;
    first_txid := txid_snapshot_xmax(first_snapshot);
    end_txid := txid_snapshot_xmax(last_snapshot);
    if txid_snapshot_xmin(first_snapshot) < first_txid then
        select coalesce(min(x) filter (where x >= first_txid - 100), first_txid),
               array_agg(x order by x) filter (where x < first_txid - 100)
          into first_txid, old_txids
          from txid_snapshot_xip(first_snapshot) x
         where txid_visible_in_snapshot(x, last_snapshot);
    end if;

    select format('pgq.event_%s_', q.queue_id) as pfx, q.queue_cur_table as cur, q.queue_ntables as n,
           q.queue_switch_step1 as step1, q.queue_switch_step2 as step2
      into v_queue
      from pgq.queue q
     where q.queue_id = sub_queue;
    tables := array[v_queue.pfx || v_queue.cur];
    if v_queue.step2 is null or txid_snapshot_xmin(first_snapshot) <= v_queue.step2 then
        tables := (v_queue.pfx || (v_queue.cur - 1 + v_queue.n) % v_queue.n)
                  || case when end_txid > v_queue.step1 then tables else '{}' end;
    end if;
end;
$$ language plpgsql volatile
set search_path = pg_catalog, pgq, pg_temp set enable_seqscan = off set enable_bitmapscan = off;
