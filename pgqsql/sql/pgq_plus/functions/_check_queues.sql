create or replace function pgq._check_queues(
    out area text, out object text, out severity text, out problem text, out remedy text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._check_queues(0)
    --
    --     The part of pgq.check() about queues: tables and sequences are there and
    --     set as they should, snapshots of ticks never go back, no transaction id
    --     lies in the future.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     rows as pgq.check()
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none; its remedies name pgq.tune_storage(1), pgq.set_queue_config(3)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_queue record;
    v_name  text;
    v_count bigint;
    v_whole boolean;
begin
    area := 'queue';
    for v_queue in
        -- our own id may lie above all that have ended
        select q.*, greatest(txid_snapshot_xmax(txid_current_snapshot()), txid_current_if_assigned()) as now_txid
          from pgq.queue q
         order by q.queue_name
    loop
        object := v_queue.queue_name;
        severity := 'error';
        v_whole := true;
        for v_name in
            select v_queue.queue_data_pfx
            union all
            select v_queue.queue_data_pfx || '_' || i from generate_series(0, v_queue.queue_ntables - 1) i
            union all
            select v_queue.queue_event_seq
            union all
            select v_queue.queue_tick_seq
        loop
            if to_regclass(v_name) is null then
                problem := v_name || ' is missing';
                remedy := 'restore it from a backup, or drop the queue: delete what is left and create it again';
                v_whole := false;
                return next;
            end if;
        end loop;

        -- two tickers at once, or a tick from outside
        select count(*) into v_count
          from (select txid_snapshot_xmax(t.tick_snapshot) < lag(txid_snapshot_xmax(t.tick_snapshot))
                           over (order by t.tick_id) as back
                  from pgq.tick t
                 where t.tick_queue = v_queue.queue_id) k
         where k.back;
        if v_count > 0 then
            problem := v_count || ' ticks have an older snapshot than the tick before, events come twice';
            remedy := 'let one ticker work at a time; such ticks go with the next rotations';
            return next;
        end if;
        if v_queue.queue_switch_step1 > v_queue.now_txid or v_queue.queue_switch_step2 > v_queue.now_txid
           or exists (select 1 from pgq.tick t
                       where t.tick_queue = v_queue.queue_id
                         and txid_snapshot_xmax(t.tick_snapshot) > v_queue.now_txid) then
            problem := 'has transaction ids from the future, it was restored into a server with smaller ones;'
                       ' no new event will ever be delivered';
            remedy := 'select ' || 'pgq.rebase_after_restore' || '()';
            return next;
        end if;

        severity := 'warning';
        if v_whole then
            for v_name in
                select s.seqrelid::regclass::text
                  from pg_sequence s
                 where s.seqrelid in (v_queue.queue_event_seq::regclass, v_queue.queue_tick_seq::regclass)
                   and s.seqcache > 1
            loop
                problem := 'sequence ' || v_name || ' hands out numbers in blocks, the ticker sees events that are not there';
                remedy := 'alter sequence ' || v_name || ' cache 1';
                return next;
            end loop;
            for v_name in
                select c.oid::regclass::text
                  from pg_inherits i
                  join pg_class c on c.oid = i.inhrelid
                 where i.inhparent = v_queue.queue_data_pfx::regclass
                   and not coalesce(c.reloptions, '{}') && array['autovacuum_enabled=off', 'autovacuum_enabled=false']
                 order by 1
            loop
                problem := 'autovacuum works on table ' || v_name || ', which is only filled and truncated';
                remedy := format('select pgq.tune_storage(%L)', v_queue.queue_name);
                return next;
            end loop;
        end if;
        for problem, remedy in
            select format('cannot be ticked: the open transaction of pid %s (%s, %s, %s) has ticked since %s', a.pid, a.usename,
                          coalesce(a.application_name, ''), coalesce(a.state, ''), date_trunc('second', a.xact_start)),
                   format('let it end, or select pg_terminate_backend(%s)', a.pid)
              from pg_locks l
              join pg_stat_activity a on a.pid = l.pid
             where l.locktype = 'advisory' and l.classid = 1885827444 and l.objid = v_queue.queue_id and l.objsubid = 2
               and l.database = (select d.oid from pg_database d where d.datname = current_database())
               and l.granted and a.xact_start < now() - interval '10 seconds'
        loop
            return next;
        end loop;
        if v_queue.queue_ticker_paused then
            problem := 'its ticker is paused, consumers get nothing new';
            remedy := format('select pgq.set_queue_config(%L, %L, %L)', v_queue.queue_name, 'ticker_paused', 'false');
            return next;
        end if;
    end loop;

    object := 'pgq.batch_id_seq';
    if exists (select 1 from pg_sequence s where s.seqrelid = to_regclass('pgq.batch_id_seq') and s.seqcache > 1) then
        problem := 'hands out numbers in blocks';
        remedy := 'alter sequence pgq.batch_id_seq cache 1';
        return next;
    end if;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pg_temp;
