create or replace function skyd_node.cut_events(i_queue_name text, i_tick_id bigint, i_term bigint)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: skyd_node.cut_events(3)
    --
    --     Takes everything out of a closed queue that came after a tick: what
    --     a root had taken when the cascade went on without it. The events go
    --     to skyd_node.lost_event; ticks and retries of them go away, and
    --     consumers that were further stand at the tick. Repeatable.
    --
    --     Security definer: the tables belong to the installing role.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_tick_id - last tick that the cascade has in common
    --     i_term - term with which the cascade went on
    --
    -- Returns:
    --     number of events moved
    --
    -- Raises:
    --     undefined_object - no such queue or tick
    --     object_not_in_prerequisite_state - the queue is open
    --
    -- Calls:
    --     pgq.quote_fqname(1)
    --
    -- Tables:
    --     read   - pgq.queue
    --     insert - skyd_node.lost_event
    --     update - pgq.subscription
    --     delete - pgq.tick, pgq.retry_queue, the event tables
    --
    -- Locks:
    --     the event tables against writers until the transaction ends
    -- ----------------------------------------------------------------
declare
    v_queue pgq.queue%rowtype;
    v_snap  txid_snapshot;
    v_table text;
    v_count bigint;
    v_total bigint := 0;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    select t.tick_snapshot into v_snap from pgq.tick t where t.tick_queue = v_queue.queue_id and t.tick_id = i_tick_id;
    if not found then
        raise exception 'queue % does not have tick %: this node cannot return, build it anew', i_queue_name, i_tick_id
            using errcode = 'undefined_object';
    end if;
    if not v_queue.queue_disable_insert or not v_queue.queue_external_ticker then
        raise exception 'queue % is open', i_queue_name using errcode = 'object_not_in_prerequisite_state';
    end if;
    execute format('lock table %s in exclusive mode', pgq.quote_fqname(v_queue.queue_data_pfx));
    for i in 0 .. v_queue.queue_ntables - 1 loop
        v_table := pgq.quote_fqname(v_queue.queue_data_pfx || '_' || i);
        execute format(
            'insert into skyd_node.lost_event (queue_name, term, ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data,'
            ' ev_extra1, ev_extra2, ev_extra3, ev_extra4, tick_id)'
            ' select $1, $2, e.ev_id, e.ev_time, e.ev_txid, e.ev_retry, e.ev_type, e.ev_data,'
            ' e.ev_extra1, e.ev_extra2, e.ev_extra3, e.ev_extra4,'
            ' (select min(t.tick_id) from pgq.tick t where t.tick_queue = $4 and t.tick_id > $5'
            '   and txid_visible_in_snapshot(e.ev_txid, t.tick_snapshot))'
            ' from %s e where e.ev_txid >= $6 and e.ev_owner is null and not txid_visible_in_snapshot(e.ev_txid, $3)'
            ' on conflict do nothing', v_table)
        using i_queue_name, i_term, v_snap, v_queue.queue_id, i_tick_id, txid_snapshot_xmin(v_snap);
        get diagnostics v_count = row_count;
        v_total := v_total + v_count;
        execute format('delete from %s e where e.ev_txid >= $1 and not txid_visible_in_snapshot(e.ev_txid, $2)', v_table)
        using txid_snapshot_xmin(v_snap), v_snap;
    end loop;
    delete from pgq.retry_queue r
     where r.ev_queue = v_queue.queue_id
       and exists (select 1 from skyd_node.lost_event l
                    where l.queue_name = i_queue_name and l.term = i_term and l.ev_id = r.ev_id);
    update pgq.subscription s
       set sub_last_tick = i_tick_id, sub_batch = null, sub_next_tick = null
     where s.sub_queue = v_queue.queue_id and s.sub_last_tick > i_tick_id;
    update pgq.subscription s
       set sub_batch = null, sub_next_tick = null
     where s.sub_queue = v_queue.queue_id and s.sub_next_tick > i_tick_id;
    delete from pgq.tick t where t.tick_queue = v_queue.queue_id and t.tick_id > i_tick_id;
    return v_total;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, skyd_node, pg_temp;
