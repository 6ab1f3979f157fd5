create or replace function pgq.maint_retry_events()
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.maint_retry_events(0)
    --
    --     Moves due events from the retry queue back into their queues, where
    --     a later batch of their owner delivers them. Oldest first, up to 1000
    --     for a call; call it until it answers 0.
    --
    --     Events of a queue that is closed for writing stay where they are, so
    --     that one such queue does not stop the others.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     number of events moved
    --
    -- Raises:
    --     40001 when a repeatable read transaction is older than the last
    --     change of a queue
    --
    -- Calls:
    --     pgq.current_event_table(1)
    --
    -- Tables:
    --     read   - pgq.queue
    --     delete - pgq.retry_queue
    --     insert - data tables of the queues, with their event sequences
    --
    -- Locks:
    --     advisory lock (1885827442, 0) until the transaction ends: two movers
    --     take turns; row locks on the moved rows
    -- ----------------------------------------------------------------
declare
    v_queue record;
    v_moved integer;
    v_count integer := 0;
begin
    perform pg_advisory_xact_lock(1885827442, 0);
    for v_queue in
        select q.queue_name, q.queue_id, q.queue_event_seq, array_agg(r.ev_owner) as owners, array_agg(r.ev_id) as ids
          from (select d.ev_queue, d.ev_owner, d.ev_id
                  from pgq.retry_queue d
                  join pgq.queue dq on dq.queue_id = d.ev_queue
                 where d.ev_retry_after <= now()
                   and (not dq.queue_disable_insert or current_setting('session_replication_role') = 'replica')
                 order by d.ev_retry_after
                 limit 1000) r
          join pgq.queue q on q.queue_id = r.ev_queue
         group by q.queue_id
         order by q.queue_id
    loop
        execute format(
            'with due as ('
            ' delete from pgq.retry_queue r'
            ' using unnest($1::integer[], $2::bigint[]) k (ev_owner, ev_id)'
            ' where r.ev_owner = k.ev_owner and r.ev_id = k.ev_id and r.ev_retry_after <= now()'
            ' returning r.*)'
            ' insert into %s (ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data,'
            ' ev_extra1, ev_extra2, ev_extra3, ev_extra4)'
            ' select ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data,'
            ' ev_extra1, ev_extra2, ev_extra3, ev_extra4 from due',
            pgq.current_event_table(v_queue.queue_name))
        using v_queue.owners, v_queue.ids;
        get diagnostics v_moved = row_count;
        -- the counter tells the ticker that there is something to tick
        perform nextval(v_queue.queue_event_seq::regclass) from generate_series(1, v_moved);
        v_count := v_count + v_moved;
    end loop;
    return v_count;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
