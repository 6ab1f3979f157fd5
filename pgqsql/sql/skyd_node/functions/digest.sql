create or replace function skyd_node.digest(
    i_queue_name text,
    i_from_tick bigint,
    i_to_tick bigint,
    out events bigint,
    out hash text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: skyd_node.digest(3)
    --
    --     Counts and hashes the events between two ticks: their ids, times,
    --     types, data and extras, in no order. Equal batches on two nodes have
    --     equal digests.
    --
    --     Security definer: the event tables are not for everybody to read.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_from_tick - tick before the first event
    --     i_to_tick - tick after the last event
    --
    -- Returns:
    --     number of events, and their hash
    --
    -- Raises:
    --     queue or tick not found
    --
    -- Calls:
    --     pgq.quote_fqname(1)
    --
    -- Tables:
    --     read - pgq.queue, pgq.tick, the event tables
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_queue pgq.queue%rowtype;
    v_from  txid_snapshot;
    v_to    txid_snapshot;
    v_count bigint;
    v_part  numeric;
    v_sum   numeric := 0;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    if not found then
        raise exception 'queue not found: %', coalesce(i_queue_name, '<null>') using errcode = 'undefined_object';
    end if;
    select t.tick_snapshot into v_from from pgq.tick t where t.tick_queue = v_queue.queue_id and t.tick_id = i_from_tick;
    select t.tick_snapshot into v_to from pgq.tick t where t.tick_queue = v_queue.queue_id and t.tick_id = i_to_tick;
    if v_from is null or v_to is null then
        raise exception 'queue % does not have the ticks % and %', i_queue_name, i_from_tick, i_to_tick
            using errcode = 'undefined_object';
    end if;
    events := 0;
    for i in 0 .. v_queue.queue_ntables - 1 loop
        execute format(
            'select count(*), coalesce(sum((''x'' || substr(md5(row(ev_id, extract(epoch from ev_time), ev_type, ev_data,'
            ' ev_extra1, ev_extra2, ev_extra3, ev_extra4)::text), 1, 15))::bit(60)::bigint), 0) from %s'
            ' where ev_txid >= $1 and ev_owner is null'
            ' and txid_visible_in_snapshot(ev_txid, $3) and not txid_visible_in_snapshot(ev_txid, $2)',
            pgq.quote_fqname(v_queue.queue_data_pfx || '_' || i))
           into v_count, v_part using txid_snapshot_xmin(v_from), v_from, v_to;
        events := events + v_count;
        v_sum := v_sum + v_part;
    end loop;
    hash := md5(v_sum::text);
end;
$$ language plpgsql stable security definer set search_path = pg_catalog, skyd_node, pg_temp;
