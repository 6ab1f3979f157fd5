create or replace function pgq.maint_delayed_events()
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.maint_delayed_events(0)
    --
    --     Moves delayed events that are due into their queues, oldest first,
    --     up to 1000 for a call; call it until it answers 0. Events of a queue
    --     that is closed for writing stay where they are.
    --
    --     Security definer: maintenance has no rights on pgq.delayed_event.
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
    --     pgq._open_queue(1)
    --
    -- Tables:
    --     read   - pgq.queue
    --     delete - pgq.delayed_event
    --     insert - data tables of the queues, with their event sequences
    --
    -- Locks:
    --     advisory lock (1885827446, 0) until the transaction ends: two movers
    --     take turns; row locks on the moved rows
    -- ----------------------------------------------------------------
declare
    v_due   record;
    v_queue record;
    v_moved integer;
    v_count integer := 0;
begin
    perform pg_advisory_xact_lock(1885827446, 0);
    for v_due in
        select q.queue_name, q.queue_id, array_agg(d.ev_id) as ids
          from (select e.ev_queue, e.ev_id
                  from pgq.delayed_event e
                  join pgq.queue eq on eq.queue_id = e.ev_queue
                 where e.ev_deliver_at <= now()
                   and (not eq.queue_disable_insert or current_setting('session_replication_role') = 'replica')
                 order by e.ev_deliver_at
                 limit 1000) d
          join pgq.queue q on q.queue_id = d.ev_queue
         group by q.queue_id
         order by q.queue_id
    loop
        v_queue := pgq._open_queue(v_due.queue_name);
        execute 'with due as ('
                ' delete from pgq.delayed_event d where d.ev_queue = $1 and d.ev_id = any ($2) and d.ev_deliver_at <= pg_catalog.now()'
                ' returning d.*)'
                ' insert into ' || v_queue.event_table
                || ' (ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)'
                   ' select ev_id, ev_deliver_at, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4 from due'
        using v_due.queue_id, v_due.ids;
        get diagnostics v_moved = row_count;
        -- the counter tells the ticker that there is something to tick
        perform nextval(v_queue.event_seq::regclass) from generate_series(1, v_moved);
        v_count := v_count + v_moved;
    end loop;
    return v_count;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
