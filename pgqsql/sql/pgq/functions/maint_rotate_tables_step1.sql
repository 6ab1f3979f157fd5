create or replace function pgq.maint_rotate_tables_step1(i_queue_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.maint_rotate_tables_step1(1)
    --
    --     First half of a rotation: truncates the oldest data table and makes
    --     it current. Skipped while a consumer may still need events from
    --     before the last rotation, and without waiting when anybody holds a
    --     lock on the table or on the queue's row. Old ticks go with it, so ticks stay for at least
    --     one rotation period.
    --
    --     The queue row is locked before the positions are read: a consumer
    --     that registers meanwhile waits, one that registered is seen.
    --
    --     Without consumers nobody has a position, but one who registers gets
    --     what transactions that are open then have written. So a transaction
    --     open since before the last rotation that may have written into the
    --     table before holds the next one: all producers look at pgq.queue,
    --     and keep the lock of that look until they end.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     0, also when nothing was to do or the queue is missing
    --
    -- Raises:
    --     the tick of the slowest consumer is gone; a tick lies in the future
    --     of this server's transaction ids
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read     - pgq.subscription, pgq.tick
    --     update   - pgq.queue
    --     delete   - pgq.tick
    --     truncate - next data table of the queue
    --
    -- Locks:
    --     the queue row and access exclusive on the table truncated, both
    --     without waiting
    -- ----------------------------------------------------------------
declare
    v_queue pgq.queue%rowtype;
    v_tick  bigint;
    v_xmin  bigint;
    v_next  integer;
begin
    select q.* into v_queue
      from pgq.queue q
     where q.queue_name = i_queue_name
       for no key update skip locked;
    if not found
       or v_queue.queue_switch_step2 is null
       or now() <= v_queue.queue_switch_time + v_queue.queue_rotation_period then
        return 0;
    end if;

    -- after a restore into a server with smaller transaction ids nobody would
    -- ever be behind
    select t.tick_id into v_tick
      from pgq.tick t
     where t.tick_queue = v_queue.queue_id
       and txid_snapshot_xmax(t.tick_snapshot) > txid_snapshot_xmax(txid_current_snapshot())
     limit 1;
    if found then
        raise exception 'tick % of queue % lies in the future; after a restore call %',
                v_tick, i_queue_name, 'pgq.rebase_after_restore' || '()'
            using errcode = 'object_not_in_prerequisite_state';
    end if;

    select min(s.sub_last_tick) into v_tick from pgq.subscription s where s.sub_queue = v_queue.queue_id;
    if v_tick is not null then
        select txid_snapshot_xmin(t.tick_snapshot) into v_xmin
          from pgq.tick t
         where t.tick_queue = v_queue.queue_id and t.tick_id = v_tick;
        if not found then
            raise exception 'position of a consumer of queue % is gone: tick %', i_queue_name, v_tick
                using errcode = 'object_not_in_prerequisite_state';
        end if;
        if v_xmin <= v_queue.queue_switch_step2 then
            return 0;
        end if;
    elsif exists (
        select 1
          from pg_locks l
          join pg_locks x on x.virtualtransaction = l.virtualtransaction
         where l.locktype = 'relation' and l.relation = 'pgq.queue'::regclass and l.granted
           and l.database = (select d.oid from pg_database d where d.datname = current_database())
           and x.locktype = 'transactionid' and x.mode = 'ExclusiveLock' and x.granted
           -- 32 bit ids are the ones just below our own
           and txid_current() - age(x.transactionid) <= v_queue.queue_switch_step2)
    then
        return 0;
    end if;

    v_next := (v_queue.queue_cur_table + 1) % v_queue.queue_ntables;
    begin
        execute format('lock table pgq.event_%s_%s in access exclusive mode nowait', v_queue.queue_id, v_next);
    exception
        when lock_not_available then
            return 0;
    end;
    execute format('truncate pgq.event_%s_%s', v_queue.queue_id, v_next);

    update pgq.queue q
       set queue_cur_table = v_next,
           queue_switch_time = now(),
           queue_switch_step1 = txid_current(),
           queue_switch_step2 = null
     where q.queue_id = v_queue.queue_id;
    delete from pgq.tick t
     where t.tick_queue = v_queue.queue_id
       and txid_snapshot_xmin(t.tick_snapshot) < v_queue.queue_switch_step2;
    return 0;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
