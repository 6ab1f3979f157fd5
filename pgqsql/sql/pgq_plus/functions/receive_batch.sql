create or replace function pgq.receive_batch(
    in i_queue_name text, in i_consumer_name text,
    in i_finish_batch bigint default null, in i_max_events integer default null,
    in i_merge_events integer default null, in i_tick boolean default false,
    out batch_id bigint, out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry integer,
    out ev_type text, out ev_data text, out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text,
    out finished integer, out complete boolean,
    out cur_tick_id bigint, out prev_tick_id bigint, out cur_tick_time timestamptz, out prev_tick_time timestamptz,
    out cur_tick_event_seq bigint, out prev_tick_event_seq bigint)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.receive_batch(6)
    --
    --     All that a consumer does between two batches, in one call and one
    --     commit: closes the batch that is done, asks for a tick if there is
    --     none, opens the next batch and reads its events. Act on the events
    --     after the commit, not before: until then the batch may come to
    --     nothing. A call that finds nothing writes nothing.
    --
    --     The events of a batch end with its tick, whose snapshot is taken in
    --     here after the lock of the queue's ticker: what was committed before
    --     is in the batch, what this transaction itself writes is not.
    --
    --     A tick is asked for only when a committed event waits for one, so
    --     ticks come at the pace of consumers. Paused queues and those with an
    --     external ticker get none, nor does a transaction with a fixed
    --     snapshot. Beside the C extension its own ticker decides, by the
    --     settings of the queue, and not in a transaction that has written.
    --     Nobody else can tick the queue until the transaction ends, so it
    --     must end soon: idle for ten seconds it is ended by the server.
    --
    --     The subscription is read backwards in its index, which meets the
    --     newest version of the row before the dead ones that an old snapshot
    --     keeps; look-ups are done one by one, with the plans that do not
    --     depend on statistics.
    --
    --     Security definer: consumers have no right to write subscriptions and
    --     ticks.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - name of a plain consumer; members of groups have
    --                       pgq_coop
    --     i_finish_batch  - batch to close, null: none
    --     i_max_events    - events to return at most; null: all
    --     i_merge_events  - take waiting ticks together up to about so many
    --                       events, by the counter; null: one tick
    --     i_tick          - ask for a tick when none waits
    --
    -- Returns:
    --     the events of the batch in the order of ev_id, then one row without
    --     an event: batch_id (null: nothing yet), finished (1: i_finish_batch
    --     is closed, 0: it was not open, null: none was given), complete
    --     (false: the batch has or may have more events, read it with
    --     pgq.get_batch_cursor), and both ticks as pgq.next_batch_info
    --
    -- Raises:
    --     consumer not registered on the queue; its position tick is gone; the
    --     consumer is a cooperative group
    --
    -- Calls:
    --     pgq.ticker(1)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer, data tables of the queue
    --     insert - pgq.tick
    --     update - pgq.subscription
    --
    -- Locks:
    --     the subscription row, when something changes; waits for another
    --     session of the same consumer. The ticker's advisory lock
    --     (1885827444, queue id), for which it never waits
    -- ----------------------------------------------------------------
declare
    v_queue  record;
    v_sub    record;
    v_prev   pgq.tick%rowtype;
    v_next   pgq.tick%rowtype;
    v_now    txid_snapshot;
    v_own    bigint := pg_current_xact_id_if_assigned()::text::bigint;
    v_ended  bigint[];   -- open at the start tick, not any more
    v_events bigint;
    v_due    boolean;
    v_locked boolean;    -- the ticker's lock is ours
    v_first  bigint;
    v_old    bigint[];
    v_tables text[];
    v_where  text;
    v_sql    text;
    v_rows   bigint;
begin
    select q.queue_id as id, c.co_id as consumer, q.queue_event_seq, q.queue_tick_seq,
           q.queue_data_pfx || '_' || q.queue_cur_table as current,
           q.queue_data_pfx || '_' || (q.queue_cur_table - 1 + q.queue_ntables) % q.queue_ntables as previous,
           q.queue_switch_step1 as step1, q.queue_switch_step2 as step2,
           i_tick and not q.queue_ticker_paused and not q.queue_external_ticker
               and current_setting('transaction_isolation') in ('read committed', 'read uncommitted') as may_tick
      into v_queue
      from pgq.queue q
     cross join pgq.consumer c
     where q.queue_name = i_queue_name
       and c.co_name = i_consumer_name;

    <<again>>
    loop
        select s.ctid, s.sub_id, s.sub_last_tick, s.sub_batch, s.sub_next_tick, s.sub_last_tick as pos into v_sub
          from pgq.subscription s
         where (s.sub_queue, s.sub_consumer) >= (v_queue.id, v_queue.consumer)
           and (s.sub_queue, s.sub_consumer) <= (v_queue.id, v_queue.consumer)
         order by s.sub_queue desc, s.sub_consumer desc
         limit 1;
        if not found then
            raise exception 'consumer % is not registered on queue %',
                    coalesce(i_consumer_name, '<null>'), coalesce(i_queue_name, '<null>')
                using errcode = 'undefined_object';
        end if;
        finished := case when v_sub.sub_batch = i_finish_batch then 1
                         when i_finish_batch is not null then 0 end;
        if finished = 1 then
            v_sub.pos := v_sub.sub_next_tick;
        end if;
        select t.* into v_prev from pgq.tick t where t.tick_queue = v_queue.id and t.tick_id = v_sub.pos;
        if not found then
            raise exception 'position of consumer % on queue % is gone: tick %',
                    i_consumer_name, i_queue_name, coalesce(v_sub.pos::text, '<null>')
                using errcode = 'object_not_in_prerequisite_state',
                      hint = 'Move it to an existing tick with pgq.register_consumer_at.';
        end if;
        if v_sub.sub_batch is not null and finished is distinct from 1 then
            -- what is open is delivered again
            batch_id := v_sub.sub_batch;
            select t.* into v_next from pgq.tick t where t.tick_queue = v_queue.id and t.tick_id = v_sub.sub_next_tick;
            exit again;
        end if;

        select t.* into v_next
          from pgq.tick t
         where t.tick_queue = v_queue.id and t.tick_id > v_prev.tick_id
         order by t.tick_id
         limit 1;
        if found and i_merge_events is not null then
            select t.* into v_next
              from pgq.tick t
             where t.tick_queue = v_queue.id
               and t.tick_id >= v_next.tick_id
               and t.tick_id < v_next.tick_id + 1000
               and (t.tick_id = v_next.tick_id or t.tick_event_seq - v_prev.tick_event_seq <= i_merge_events)
             order by t.tick_id desc
             limit 1;
        end if;

        if v_next.tick_id is null and v_queue.may_tick then
            -- the counter first: what it counts and the snapshot misses is found by its transaction
            v_events := coalesce(pg_sequence_last_value(v_queue.queue_event_seq::regclass), 0);
            v_now := txid_current_snapshot();
            v_ended := array(select x from txid_snapshot_xip(v_prev.tick_snapshot) x
                              where txid_visible_in_snapshot(x, v_now) and x is distinct from v_own);
            -- the newest open transactions are in no snapshot's list: its end is one beyond the last that has ended
            v_due := v_events <> v_prev.tick_event_seq or v_ended <> '{}'
                or txid_snapshot_xmax(v_now) > txid_snapshot_xmax(v_prev.tick_snapshot);
            if v_due and exists (select 1 from pg_catalog.pg_extension e where e.extname = 'pgq') then
                v_locked := v_own is null and pg_try_advisory_xact_lock(1885827444, v_queue.id);
                if v_locked then
                    perform pgq.ticker(i_queue_name);
                end if;
            elsif v_due then
                v_sql := 'select exists (select 1 from %1$s where ev_txid >= $1 and ev_txid is distinct from $2)'
                         ' or exists (select 1 from %1$s where ev_txid = any ($3))';
                execute format(v_sql, v_queue.current) into v_due
                  using txid_snapshot_xmax(v_prev.tick_snapshot), v_own, v_ended;
                if not v_due and (v_queue.step2 is null or txid_snapshot_xmin(v_prev.tick_snapshot) <= v_queue.step2) then
                    execute format(v_sql, v_queue.previous) into v_due
                      using txid_snapshot_xmax(v_prev.tick_snapshot), v_own, v_ended;
                end if;
                if v_due then
                    -- our row first, whose lock we may have to wait for, then the ticker's, which others want
                    perform 1 from pgq.subscription s where s.ctid = v_sub.ctid for no key update;
                    v_locked := pg_try_advisory_xact_lock(1885827444, v_queue.id);
                    v_due := v_locked;
                end if;
                -- look again: a ticker that was faster has made the tick
                if v_due and not exists (select 1 from pgq.tick t
                                          where t.tick_queue = v_queue.id and t.tick_id > v_prev.tick_id) then
                    v_events := coalesce(pg_sequence_last_value(v_queue.queue_event_seq::regclass), 0);
                    v_now := txid_current_snapshot();
                    -- A snapshot leaves out its own transaction. When later ones have ended already it
                    -- would count as ended too, and events that it is yet to write as delivered.
                    v_own := pg_current_xact_id_if_assigned()::text::bigint;
                    if v_own < txid_snapshot_xmax(v_now) then
                        v_now := format('%s:%s:%s', least(txid_snapshot_xmin(v_now), v_own), txid_snapshot_xmax(v_now),
                                        (select string_agg(x::text, ',' order by x)
                                           from (select v_own as x union select txid_snapshot_xip(v_now)) i))::txid_snapshot;
                    end if;
                    insert into pgq.tick (tick_queue, tick_id, tick_time, tick_snapshot, tick_event_seq)
                    values (v_queue.id, nextval(v_queue.queue_tick_seq::regclass), now(), v_now, v_events)
                    returning * into v_next;
                    perform pg_notify(case when octet_length(i_queue_name) <= 59 then 'pgq_' || i_queue_name
                                           else 'pgq_' || md5(i_queue_name) end, v_next.tick_id::text);
                end if;
            end if;
            if v_locked and current_setting('idle_in_transaction_session_timeout')::interval not between '1 ms' and '10 s' then
                perform set_config('idle_in_transaction_session_timeout', '10s', true);
            end if;
            if v_next.tick_id is null and v_due then
                select t.* into v_next
                  from pgq.tick t
                 where t.tick_queue = v_queue.id and t.tick_id > v_prev.tick_id
                 order by t.tick_id
                 limit 1;
            end if;
        end if;

        if v_next.tick_id is null and finished is distinct from 1 then
            return next;
            return;
        end if;
        update pgq.subscription s
           set sub_last_tick = v_prev.tick_id,
               sub_batch = case when v_next.tick_id is not null then nextval('pgq.batch_id_seq') end,
               sub_next_tick = v_next.tick_id,
               sub_active = now()
         where s.ctid = v_sub.ctid
           and s.sub_queue = v_queue.id and s.sub_consumer = v_queue.consumer
           and s.sub_batch is not distinct from v_sub.sub_batch
           and s.sub_last_tick is not distinct from v_sub.sub_last_tick
        returning s.sub_batch into batch_id;
        continue again when not found;   -- another session was faster
        -- under the lock of our update no member can come
        if exists (select 1
                     from pgq.consumer c
                    cross join lateral (
                          select s.sub_id
                            from pgq.subscription s
                           where (s.sub_queue, s.sub_consumer) >= (v_queue.id, c.co_id)
                             and (s.sub_queue, s.sub_consumer) <= (v_queue.id, c.co_id)
                           order by s.sub_queue desc, s.sub_consumer desc
                           limit 1) m
                    where c.co_name ~>=~ (i_consumer_name || '.') and c.co_name ~<~ (i_consumer_name || '/')
                      and m.sub_id = v_sub.sub_id) then
            raise exception 'consumer % on queue % is a cooperative group', i_consumer_name, i_queue_name
                using errcode = 'object_in_use', hint = 'Its batches go to its members: pgq_coop.next_batch.';
        end if;
        exit again;
    end loop;

    if batch_id is null then
        return next;
        return;
    end if;
    if i_max_events < 1 or v_next.tick_event_seq - v_prev.tick_event_seq > 10 * i_max_events::bigint then
        complete := false;
    else
        -- where the events are, as pgq.batch_event_sql has it
        v_first := txid_snapshot_xmax(v_prev.tick_snapshot);
        if txid_snapshot_xmin(v_prev.tick_snapshot) < v_first then
            select coalesce(min(x) filter (where x >= v_first - 100), v_first),
                   array_agg(x) filter (where x < v_first - 100)
              into v_first, v_old
              from txid_snapshot_xip(v_prev.tick_snapshot) x
             where txid_visible_in_snapshot(x, v_next.tick_snapshot);
        end if;
        -- read again, after the tick: events before it may be in a table that became the current one meanwhile
        select q.queue_data_pfx || '_' || q.queue_cur_table as current,
               q.queue_data_pfx || '_' || (q.queue_cur_table - 1 + q.queue_ntables) % q.queue_ntables as previous,
               q.queue_switch_step1 as step1, q.queue_switch_step2 as step2
          into v_queue
          from pgq.queue q
         where q.queue_id = v_prev.tick_queue;
        v_tables := array[v_queue.current];
        if v_queue.step2 is null or txid_snapshot_xmin(v_prev.tick_snapshot) <= v_queue.step2 then
            v_tables := v_queue.previous
                || case when txid_snapshot_xmax(v_next.tick_snapshot) > v_queue.step1 then v_tables else '{}' end;
        end if;
        v_where := ' and (ev_owner is null or ev_owner = $5)';
        for i in 1 .. cardinality(v_tables) loop
            v_sql := case when i > 1 then v_sql || ' union all ' else '' end
                || 'select $6 as batch, ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data,'
                   ' ev_extra1, ev_extra2, ev_extra3, ev_extra4, $9, $10, $11, $11, $12, $12, $11, $11'
                   ' from ' || v_tables[i] ||
                   ' where ev_txid >= $1 and ev_txid < $2'
                   ' and (ev_txid >= $13 or not pg_catalog.txid_visible_in_snapshot(ev_txid, $3))'
                   ' and (ev_txid < $14 or pg_catalog.txid_visible_in_snapshot(ev_txid, $4))' || v_where;
            if v_old is not null then
                v_sql := v_sql
                    || ' union all select $6, ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data,'
                       ' ev_extra1, ev_extra2, ev_extra3, ev_extra4, $9, $10, $11, $11, $12, $12, $11, $11'
                       ' from ' || v_tables[i] || ' where ev_txid = any ($7)' || v_where;
            end if;
        end loop;
        return query execute v_sql || ' order by ev_id limit $8'
            using v_first, txid_snapshot_xmax(v_next.tick_snapshot), v_prev.tick_snapshot, v_next.tick_snapshot,
                  v_sub.sub_id, batch_id, v_old, i_max_events, null::integer, null::boolean, null::bigint,
                  null::timestamptz, txid_snapshot_xmax(v_prev.tick_snapshot), txid_snapshot_xmin(v_next.tick_snapshot);
        get diagnostics v_rows = row_count;
        complete := v_rows < i_max_events is not false;
    end if;
    cur_tick_id := v_next.tick_id;
    cur_tick_time := v_next.tick_time;
    cur_tick_event_seq := v_next.tick_event_seq;
    prev_tick_id := v_prev.tick_id;
    prev_tick_time := v_prev.tick_time;
    prev_tick_event_seq := v_prev.tick_event_seq;
    return next;
end;
$$ language plpgsql volatile security definer
set search_path = pg_catalog, pgq, pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off;
