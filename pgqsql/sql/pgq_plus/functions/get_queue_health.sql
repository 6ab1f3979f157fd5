create or replace function pgq.get_queue_health(
    i_queue_name text,
    out queue_name text, out ticker_lag_seconds float8, out ticker_paused boolean, out external_ticker boolean,
    out events_total bigint, out events_unticked bigint,
    out rotation_period_seconds float8, out rotation_age_seconds float8, out rotation_due boolean,
    out rotation_blocked boolean, out holder text, out holder_name text, out holder_pid integer,
    out holder_database text, out holder_xid bigint, out holder_age_seconds float8,
    out table_bytes bigint[], out event_bytes bigint,
    out retry_events bigint, out retry_due bigint, out retry_oldest_seconds float8,
    out dead_events bigint, out dead_oldest_seconds float8,
    out consumers bigint, out consumer_lag_seconds float8, out consumer_pending_events bigint,
    out batch_open_seconds float8)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_queue_health(1)
    --
    --     Health of queues: what waits, how big it is, and who keeps the
    --     tables from being rotated. View pgq.queue_health shows all of them.
    --
    --     It reads neither events nor the parents of event tables, which would
    --     keep rotation off. The size of a table is asked for only where the
    --     momentary lock of the question disturbs nobody.
    --
    --     Security definer: readers have no rights on pgq.retry_queue. What it
    --     shows of sessions (process, name, database, transaction) every role
    --     may see anyway.
    --
    -- Parameters:
    --     i_queue_name - queue name, null: all
    --
    -- Returns:
    --     ticker_lag_seconds      - age of the newest tick
    --     events_total            - event ids taken since the queue exists
    --     events_unticked         - of them since the newest tick, about
    --     rotation_age_seconds    - since the last rotation
    --     rotation_due            - the period is over
    --     rotation_blocked        - and somebody keeps it from happening
    --     holder                  - who: consumer (holder_name is behind),
    --                               writer (an open transaction of session
    --                               holder_pid), prepared (the prepared
    --                               transaction named holder_name), ticker
    --                               (nobody ticks), lock (session holder_pid
    --                               holds a lock on the table to be reused)
    --     holder_name             - consumer, application name, or gid
    --     holder_xid              - transaction of a writer
    --     holder_age_seconds      - lag of the consumer; age of the
    --                               transaction, or its age at least where the
    --                               server does not tell
    --     table_bytes             - size of each data table with indexes; null
    --                               for one that is locked or will be
    --                               truncated at once
    --     event_bytes             - sum of them
    --     retry_events, retry_due - events in the retry queue, and of them due
    --     retry_oldest_seconds    - age of the oldest event there
    --     dead_events             - dead letters, with the age of the oldest
    --     consumers               - registered consumers; a group counts once
    --     consumer_lag_seconds    - of the slowest; pending events: about
    --     batch_open_seconds      - time since the longest open batch was
    --                               opened or touched
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue, pgq.tick, pgq.subscription, pgq.consumer,
    --              pgq.retry_queue, pgq.dead_letter
    --
    -- Locks:
    --     none that is kept
    -- ----------------------------------------------------------------
declare
    v_next bigint := txid_snapshot_xmax(txid_current_snapshot());
begin
    return query
    with queues as materialized (
        select q.*,
               now() > q.queue_switch_time + q.queue_rotation_period and q.queue_switch_step2 is not null as due,
               (q.queue_cur_table + 1) % q.queue_ntables as next_table,
               coalesce(pg_sequence_last_value(to_regclass(q.queue_event_seq)), 0) as seq
          from pgq.queue q
         where q.queue_name = i_queue_name or i_queue_name is null
    ), retries as materialized (
        select r.ev_queue, count(*) as n, count(*) filter (where r.ev_retry_after <= now()) as due, min(r.ev_time) as oldest
          from pgq.retry_queue r
         group by r.ev_queue
    ), deads as materialized (
        select d.dead_queue, count(*) as n, min(d.dead_time) as oldest
          from pgq.dead_letter d
         group by d.dead_queue
    ), writers as materialized (
        -- transaction ids are 32 bit wide here: they are the ones just below the next
        select w.*, v_next - w.back as xid
          from (select 'writer' as kind, a.application_name as name, a.pid, a.datname, a.xact_start,
                       (v_next - a.backend_xid::text::bigint) & 4294967295 as back
                  from pg_stat_activity a
                 where a.backend_xid is not null and a.pid <> pg_backend_pid()
                 union all
                select 'prepared', p.gid, null, p.database, p.prepared,
                       (v_next - p.transaction::text::bigint) & 4294967295
                  from pg_prepared_xacts p) w
         where w.back < 2147483648 and w.back <= v_next
    ), lookers as materialized (
        -- who has looked at the queues holds one without consumers too; the C extension rotates that whoever is open
        select x.transactionid::text::bigint as xid
          from pg_locks l
          join pg_locks x on x.virtualtransaction = l.virtualtransaction and x.locktype = 'transactionid' and x.mode = 'ExclusiveLock'
         where l.locktype = 'relation' and l.relation = 'pgq.queue'::regclass and l.granted
           and l.database = (select d.oid from pg_database d where d.datname = current_database())
           and to_regproc('pgq._make_inserters') is not null
    ), locks as materialized (
        select l.relation, min(l.pid) as pid, bool_or(l.mode = 'AccessExclusiveLock') as exclusive
          from pg_locks l
         where l.locktype = 'relation' and l.granted and l.pid <> pg_backend_pid()
           and l.database = (select d.oid from pg_database d where d.datname = current_database())
         group by l.relation
    )
    select q.queue_name, extract(epoch from now() - newest.tick_time)::float8, q.queue_ticker_paused, q.queue_external_ticker,
           q.seq, greatest(q.seq - newest.tick_event_seq, 0),
           extract(epoch from q.queue_rotation_period)::float8, extract(epoch from now() - q.queue_switch_time)::float8, q.due,
           q.due and who.kind is not null, who.kind, who.name, who.pid, who.datname::text, who.xid, who.age,
           sizes.each, (select sum(s)::bigint from unnest(sizes.each) s),
           coalesce(r.n, 0), coalesce(r.due, 0), extract(epoch from now() - r.oldest)::float8,
           coalesce(d.n, 0), extract(epoch from now() - d.oldest)::float8,
           subs.n, extract(epoch from now() - slow.tick_time)::float8,
           greatest(newest.tick_event_seq - slow.tick_event_seq, 0), subs.open_seconds
      from queues q
      left join retries r on r.ev_queue = q.queue_id
      left join deads d on d.dead_queue = q.queue_id
      left join lateral (
            select t.tick_time, t.tick_event_seq, t.tick_snapshot
              from pgq.tick t
             where t.tick_queue = q.queue_id
             order by t.tick_queue desc, t.tick_id desc
             limit 1) newest on true
      left join lateral (
            select count(distinct s.sub_id) as n, min(s.sub_last_tick) as tick,
                   extract(epoch from now() - min(s.sub_active) filter (where s.sub_batch is not null))::float8 as open_seconds
              from pgq.subscription s
             where s.sub_queue = q.queue_id) subs on true
      left join pgq.tick slow on slow.tick_queue = q.queue_id and slow.tick_id = subs.tick
      left join lateral (
            -- somebody needs what lies in the table to be reused
            (select w.kind, w.name, w.pid, w.datname, w.xid,
                    extract(epoch from now() - coalesce(w.xact_start, (
                        select min(t.tick_time)
                          from pgq.tick t
                         where t.tick_queue = q.queue_id and w.xid < txid_snapshot_xmax(t.tick_snapshot))))::float8 as age
               from writers w
              where w.xid <= q.queue_switch_step2
                and (txid_snapshot_xmin(slow.tick_snapshot) <= q.queue_switch_step2
                     and txid_snapshot_xmin(newest.tick_snapshot) <= q.queue_switch_step2
                     or subs.n = 0 and w.xid & 4294967295 in (select k.xid from lookers k))
              order by w.xid
              limit 1)
             union all
            (select case when txid_snapshot_xmin(newest.tick_snapshot) <= q.queue_switch_step2
                         then 'ticker' else 'consumer' end,
                    case when txid_snapshot_xmin(newest.tick_snapshot) > q.queue_switch_step2 then c.co_name end,
                    null, null, null, extract(epoch from now() - slow.tick_time)::float8
               from pgq.subscription s
               join pgq.consumer c on c.co_id = s.sub_consumer
              where txid_snapshot_xmin(slow.tick_snapshot) <= q.queue_switch_step2
                and s.sub_queue = q.queue_id and s.sub_last_tick = subs.tick
              order by c.co_name
              limit 1)
             union all
            (select 'lock', a.application_name, l.pid, a.datname, null, extract(epoch from now() - a.xact_start)::float8
               from locks l
               left join pg_stat_activity a on a.pid = l.pid
              where l.relation = to_regclass(q.queue_data_pfx || '_' || q.next_table))
            limit 1) who on q.due
      left join lateral (
            select array_agg(case when l.exclusive or (q.due and who.kind is null and i = q.next_table) then null
                                  else pg_total_relation_size(t.oid) end order by i) as each
              from generate_series(0, q.queue_ntables - 1) i
             cross join lateral (select to_regclass(q.queue_data_pfx || '_' || i) as oid) t
              left join locks l on l.relation = t.oid) sizes on true
     order by q.queue_name;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
