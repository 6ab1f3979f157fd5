create or replace function pgq.get_batch_info(
    in x_batch_id bigint,
    out queue_name text, out consumer_name text,
    out batch_start timestamptz, out batch_end timestamptz,
    out prev_tick_id bigint, out tick_id bigint, out lag interval,
    out seq_start bigint, out seq_end bigint)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_batch_info(1)
    --
    --     Borders of an open batch and whose it is.
    --
    -- Parameters:
    --     x_batch_id - batch
    --
    -- Returns:
    --     one row: queue_name, consumer_name, batch_start and batch_end (tick
    --     times), prev_tick_id, tick_id, lag (age of the end tick), seq_start,
    --     seq_end (event counters); all null when the batch is not open
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq._find_batch(1)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer, pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_sub record;
begin
    -- one look-up at a time: a join might begin with all the ticks
    select f.* into v_sub from pgq._find_batch(x_batch_id) f;
    select q.queue_name, c.co_name, prev.tick_time, cur.tick_time, prev.tick_id, cur.tick_id,
           now() - cur.tick_time, prev.tick_event_seq, cur.tick_event_seq
      into queue_name, consumer_name, batch_start, batch_end, prev_tick_id, tick_id,
           lag, seq_start, seq_end
      from pgq.queue q
     cross join pgq.consumer c
     cross join pgq.tick prev
     cross join pgq.tick cur
     where q.queue_id = v_sub.sub_queue
       and c.co_id = v_sub.sub_consumer
       and prev.tick_queue = v_sub.sub_queue and prev.tick_id = v_sub.sub_last_tick
       and cur.tick_queue = v_sub.sub_queue and cur.tick_id = v_sub.sub_next_tick;
end;
$$ language plpgsql volatile security definer
set search_path = pg_catalog, pgq, pg_temp set enable_seqscan = off set enable_bitmapscan = off;
