create or replace function pgq._check_rotation(
    out area text, out object text, out severity text, out problem text, out remedy text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._check_rotation(0)
    --
    --     The part of pgq.check() about rotation: queues whose rotation is half
    --     done, or due and not done, and who holds it: a
    --     consumer, a transaction, a prepared one, or a lock on the next table.
    --     Nobody is ever rotated over, so the tables grow meanwhile.
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
    --     none; its remedies name pgq.maint_rotate_tables_step2(0),
    --     pgq.unregister_consumer(2), pgq.get_queue_info(0)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer, pgq.subscription, pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_queue   record;
    v_behind  boolean;
    v_lookers bigint[];
begin
    area := 'rotation';
    severity := 'warning';
    for v_queue in
        select q.*, date_trunc('second', now() - q.queue_switch_time) as age,
               (q.queue_data_pfx || '_' || (q.queue_cur_table + 1) % q.queue_ntables) as next_table
          from pgq.queue q
         where now() > q.queue_switch_time + q.queue_rotation_period or q.queue_switch_step2 is null
         order by q.queue_name
    loop
        object := v_queue.queue_name;
        if v_queue.queue_switch_step2 is null then
            problem := 'is half done since ' || v_queue.age;
            remedy := 'select pgq.maint_rotate_tables_step2()';
            return next;
            continue;
        end if;
        v_behind := exists (
            select 1
              from pgq.subscription s
              join pgq.tick t on t.tick_queue = s.sub_queue and t.tick_id = s.sub_last_tick
             where s.sub_queue = v_queue.queue_id
               and txid_snapshot_xmin(t.tick_snapshot) <= v_queue.queue_switch_step2);
        -- the C extension rotates such a queue whoever has a transaction open
        v_lookers := array(
            select x.transactionid::text::bigint
              from pg_locks l
              join pg_locks x on x.virtualtransaction = l.virtualtransaction and x.locktype = 'transactionid' and x.mode = 'ExclusiveLock'
             where l.relation = 'pgq.queue'::regclass
               and l.database = (select d.oid from pg_database d where d.datname = current_database())
               and to_regproc('pgq._make_inserters') is not null
               and not exists (select 1 from pgq.subscription s where s.sub_queue = v_queue.queue_id));
        for problem, remedy in
            select format('is held by consumer %s for %s: it stands at tick %s of %s%s, last seen %s ago', c.co_name, v_queue.age,
                          t.tick_id, date_trunc('second', t.tick_time),
                          case when s.sub_batch is null then '' else ' with open batch ' || s.sub_batch end,
                          date_trunc('second', now() - s.sub_active)),
                   format('let it run, or select pgq.unregister_consumer(%L, %L)', v_queue.queue_name, c.co_name)
              from pgq.subscription s
              join pgq.consumer c on c.co_id = s.sub_consumer
              join pgq.tick t on t.tick_queue = s.sub_queue and t.tick_id = s.sub_last_tick
             where s.sub_queue = v_queue.queue_id
               and txid_snapshot_xmin(t.tick_snapshot) <= v_queue.queue_switch_step2
               -- at the newest tick it has read all there is
               and t.tick_id < (select max(k.tick_id) from pgq.tick k where k.tick_queue = v_queue.queue_id)
             order by t.tick_id, c.co_name
        loop
            return next;
        end loop;

        -- transactions that were open at the last rotation and still are: where nobody stands below it, they hold nothing;
        -- where nobody stands at all, those that looked at the queues do
        for problem, remedy in
            select format('is held by the open transaction of pid %s (%s, %s, %s) since %s', a.pid, a.usename,
                          coalesce(a.application_name, ''), coalesce(a.state, ''), date_trunc('second', a.xact_start)),
                   format('let it end, or select pg_terminate_backend(%s)', a.pid)
              from txid_snapshot_xip(txid_current_snapshot()) x
              join pg_stat_activity a on a.backend_xid::text::bigint = x & 4294967295
             where x <= v_queue.queue_switch_step2
               and (v_behind or x & 4294967295 = any (v_lookers))
            union all
            select format('is held by prepared transaction %s (%s) since %s', p.gid, p.owner, date_trunc('second', p.prepared)),
                   format('commit prepared %L, or rollback prepared %L', p.gid, p.gid)
              from txid_snapshot_xip(txid_current_snapshot()) x
              join pg_prepared_xacts p on p.transaction::text::bigint = x & 4294967295
             where x <= v_queue.queue_switch_step2
               and (v_behind or x & 4294967295 = any (v_lookers))
        loop
            return next;
        end loop;

        for problem, remedy in
            select format('is skipped while pid %s has a lock on table %s (%s)', l.pid, v_queue.next_table, l.mode),
                   'read queues through pgq.get_queue_info(), not their parent tables; let dumps end'
              from pg_locks l
             where l.relation = to_regclass(v_queue.next_table) and l.granted
               and l.database = (select d.oid from pg_database d where d.datname = current_database())
               and l.pid is distinct from pg_backend_pid()
             order by l.pid, l.mode
        loop
            return next;
        end loop;
    end loop;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pg_temp;
