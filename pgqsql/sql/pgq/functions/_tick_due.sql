create or replace function pgq._tick_due(i_queue pgq.queue, i_events bigint, i_locked boolean)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._tick_due(3)
    --
    --     Decides whether a queue needs a tick now; the rules stand at
    --     pgq.ticker(1).
    --
    -- Parameters:
    --     i_queue  - row of the queue
    --     i_events - event counter now
    --     i_locked - true when the ticker lock of the queue is held: only then
    --                the tick sequence can be compared with what is visible
    --
    -- Returns:
    --     true when a tick is due
    --
    -- Raises:
    --     the newest tick lies in the future of this server's transaction ids
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.tick, the queue's tick sequence
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_newest record;
    v_before timestamptz;
    v_lag    interval;
    v_new    bigint;
begin
    select t.tick_id, t.tick_time, t.tick_event_seq, t.tick_snapshot
      into v_newest
      from pgq.tick t
     where t.tick_queue = i_queue.queue_id
     order by t.tick_id desc
     limit 1;
    if not found then
        return true;
    end if;
    if txid_snapshot_xmax(v_newest.tick_snapshot) > txid_snapshot_xmax(txid_current_snapshot()) then
        raise exception 'tick % of queue % lies in the future: its snapshot is %, the server is at %',
                v_newest.tick_id, i_queue.queue_name, v_newest.tick_snapshot, txid_current_snapshot()
            using errcode = 'object_not_in_prerequisite_state',
                  hint = 'The database was restored into a server with smaller transaction ids.';
    end if;
    if i_locked
       and current_setting('transaction_isolation') in ('repeatable read', 'serializable')
       and pg_catalog.pg_sequence_last_value(i_queue.queue_tick_seq::regclass) > v_newest.tick_id then
        return false;
    end if;

    v_lag := now() - v_newest.tick_time;
    v_new := i_events - v_newest.tick_event_seq;
    if v_new > 0 then
        return v_new >= i_queue.queue_ticker_max_count or v_lag >= i_queue.queue_ticker_max_lag;
    end if;

    select t.tick_time
      into v_before
      from pgq.tick t
     where t.tick_queue = i_queue.queue_id
       and t.tick_id < v_newest.tick_id
     order by t.tick_id desc
     limit 1;
    if not found then
        return true;
    end if;
    if v_lag < i_queue.queue_ticker_max_lag / 2 then
        return false;
    end if;
    return v_lag >= 2 * (v_newest.tick_time - v_before) or v_lag >= i_queue.queue_ticker_idle_period;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
