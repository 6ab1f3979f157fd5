create or replace function pgq.ticker(i_queue_name text, i_tick_id bigint, i_orig_timestamp timestamptz, i_event_seq bigint)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.ticker(4)
    --
    --     Inserts a tick that was made elsewhere, for queues whose ticks are
    --     pushed (queue_external_ticker). The snapshot is the current one;
    --     events of this very transaction are not in it.
    --
    -- Parameters:
    --     i_queue_name     - queue name
    --     i_tick_id        - id of the tick
    --     i_orig_timestamp - time of the tick
    --     i_event_seq      - event counter at the tick
    --
    -- Returns:
    --     tick id
    --
    -- Raises:
    --     queue not found; queue has its own ticker; ticker paused; tick id
    --     exists already
    --
    -- Calls:
    --     pgq.seq_setval(2), pgq._tick_snapshot(0), pgq.wakeup_channel(1)
    --
    -- Tables:
    --     read   - pgq.queue
    --     insert - pgq.tick
    --
    -- Locks:
    --     advisory lock (1885827444, queue id) until the transaction ends;
    --     waits for another ticker of the same queue
    -- ----------------------------------------------------------------
declare
    v_queue    pgq.queue%rowtype;
    v_snapshot txid_snapshot;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    if not found then
        raise exception 'queue not found: %', coalesce(i_queue_name, '<null>')
            using errcode = 'undefined_object';
    end if;
    if not v_queue.queue_external_ticker then
        raise exception 'queue % makes its own ticks, external ticks are refused', i_queue_name
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if v_queue.queue_ticker_paused then
        raise exception 'ticker of queue % is paused', i_queue_name
            using errcode = 'object_not_in_prerequisite_state';
    end if;

    perform pg_advisory_xact_lock(1885827444, v_queue.queue_id);
    v_snapshot := pgq._tick_snapshot();
    insert into pgq.tick (tick_queue, tick_id, tick_time, tick_snapshot, tick_event_seq)
    values (v_queue.queue_id, i_tick_id, i_orig_timestamp, v_snapshot, i_event_seq);

    perform pgq.seq_setval(v_queue.queue_tick_seq, i_tick_id);
    perform pgq.seq_setval(v_queue.queue_event_seq, i_event_seq);
    perform pg_notify(pgq.wakeup_channel(i_queue_name), i_tick_id::text);
    return i_tick_id;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.ticker(i_queue_name text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.ticker(1)
    --
    --     Makes a tick if one is due. With new events since the newest tick:
    --     when they are at least ticker_max_count, or the tick is at least
    --     ticker_max_lag old. Without: when less than two ticks exist, or the
    --     newest one is older than half of ticker_max_lag and older than twice
    --     the distance of the last two, or than ticker_idle_period.
    --
    --     Two tickers of one queue never interleave: the one without the lock
    --     returns at once. The lock is taken in a statement of its own, so the
    --     snapshot after it is newer than that of every earlier tick. In a
    --     transaction with a fixed snapshot no tick is made when another one
    --     was taken since; it would go backwards. What this transaction itself
    --     writes, before the tick or after it, comes with the next one.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     tick id, or null when none is due or another ticker is at work
    --
    -- Raises:
    --     queue not found; queue has an external ticker; ticker paused; the
    --     newest tick lies in the future of this server's transaction ids
    --
    -- Calls:
    --     pgq._event_count(1), pgq._tick_due(3), pgq._tick_snapshot(0),
    --     pgq.wakeup_channel(1)
    --
    -- Tables:
    --     read   - pgq.queue, the queue's sequences
    --     insert - pgq.tick
    --
    -- Locks:
    --     advisory lock (1885827444, queue id) until the transaction ends,
    --     never waits for it
    -- ----------------------------------------------------------------
declare
    v_queue    pgq.queue%rowtype;
    v_events   bigint;
    v_snapshot txid_snapshot;
    v_tick     bigint;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    if not found then
        raise exception 'queue not found: %', coalesce(i_queue_name, '<null>')
            using errcode = 'undefined_object';
    end if;
    if v_queue.queue_external_ticker then
        raise exception 'queue % has an external ticker, it makes no ticks of its own', i_queue_name
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if v_queue.queue_ticker_paused then
        raise exception 'ticker of queue % is paused', i_queue_name
            using errcode = 'object_not_in_prerequisite_state';
    end if;

    if not pgq._tick_due(v_queue, pgq._event_count(v_queue.queue_event_seq), false) then
        return null;
    end if;
    if not pg_try_advisory_xact_lock(1885827444, v_queue.queue_id) then
        return null;
    end if;
    -- look again: a ticker that was faster may have made the tick, and a root
    -- that is demoted has made its last one
    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    if v_queue.queue_external_ticker or v_queue.queue_ticker_paused then
        return null;
    end if;
    v_events := pgq._event_count(v_queue.queue_event_seq);
    if not pgq._tick_due(v_queue, v_events, true) then
        return null;
    end if;
    v_snapshot := pgq._tick_snapshot();
    insert into pgq.tick (tick_queue, tick_id, tick_time, tick_snapshot, tick_event_seq)
    values (v_queue.queue_id, nextval(v_queue.queue_tick_seq::regclass), now(), v_snapshot, v_events)
    returning tick_id into v_tick;

    perform pg_notify(pgq.wakeup_channel(i_queue_name), v_tick::text);
    return v_tick;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.ticker()
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.ticker(0)
    --
    --     Looks at all queues by name and makes the ticks that are due. All of
    --     it is one transaction; a daemon does better with one transaction for
    --     each queue.
    --
    --     A queue that cannot be ticked does not keep the others from it: a
    --     warning tells about it. One that was dropped, paused or switched to
    --     external ticks meanwhile is passed over, one that is just being
    --     dropped after a short wait.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     number of queues that got a tick
    --
    -- Raises:
    --     as pgq.ticker(1), when no queue at all could be looked at
    --
    -- Calls:
    --     pgq.ticker(1)
    --
    -- Tables:
    --     read   - pgq.queue
    --
    -- Locks:
    --     as pgq.ticker(1), for all queues ticked; waits 200 ms at most for
    --     any other
    -- ----------------------------------------------------------------
declare
    v_name   text;
    v_count  bigint := 0;
    v_looked boolean := false;
    v_state  text;
    v_error  text;
begin
    for v_name in
        select q.queue_name
          from pgq.queue q
         where not q.queue_external_ticker
           and not q.queue_ticker_paused
         order by q.queue_name
    loop
        begin
            if pgq.ticker(v_name) is not null then
                v_count := v_count + 1;
            end if;
            v_looked := true;
        exception
            when lock_not_available then
                v_looked := true;
            when others then
                perform 1
                   from pgq.queue q
                  where q.queue_name = v_name
                    and not q.queue_external_ticker
                    and not q.queue_ticker_paused;
                if found then
                    v_state := sqlstate;
                    v_error := sqlerrm;
                    raise warning 'queue % got no tick: %', v_name, v_error;
                end if;
        end;
    end loop;
    if v_error is not null and not v_looked then
        raise exception '%', v_error using errcode = v_state;
    end if;
    return v_count;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp set lock_timeout = '200ms';
