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
    --     insert - pgq.tick, undone at once
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_newest record;
    v_before timestamptz;
    v_lag    interval;
    v_new    bigint;
    v_last   bigint;
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
        raise exception 'tick % of queue % lies in the future: its snapshot is %, the server is at %; after a restore call %',
                v_newest.tick_id, i_queue.queue_name, v_newest.tick_snapshot, txid_current_snapshot(),
                'pgq.rebase_after_restore' || '()'
            using errcode = 'object_not_in_prerequisite_state',
                  hint = 'The database was restored into a server with smaller transaction ids. skyd schema install brings that function.';
    end if;
    if i_locked and current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        -- A number above the newest tick was rolled back, or belongs to a tick that came after our snapshot.
        -- Only a unique index tells: it sees more than we do.
        v_last := pg_catalog.pg_sequence_last_value(i_queue.queue_tick_seq::regclass);
        if v_last > v_newest.tick_id then
            begin
                insert into pgq.tick (tick_queue, tick_id, tick_event_seq)
                select i_queue.queue_id, i, 0 from generate_series(greatest(v_newest.tick_id + 1, v_last - 100), v_last) i;
                raise exception 'no tick is there' using errcode = 'SKYD0';
            exception
                when unique_violation then return false;
                when sqlstate 'SKYD0' then null;
            end;
        end if;
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
$$ language plpgsql volatile
set search_path = pg_catalog, pgq, pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off;
