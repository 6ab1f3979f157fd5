create or replace function pgq.insert_event_at(
    i_queue_name text, i_deliver_at timestamptz, i_type text, i_data text,
    i_extra1 text default null, i_extra2 text default null, i_extra3 text default null, i_extra4 text default null)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.insert_event_at(8)
    --
    --     Inserts an event that consumers get at a later time. It waits in a
    --     table of its own; maintenance moves it into the queue when it is
    --     due, so it comes up to one round of maintenance and one tick later.
    --     Its creation time is then the time it was due.
    --
    --     Security definer: producers have no rights on the tables.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_deliver_at - time; one that is past: the event is inserted at once
    --     i_type       - event type
    --     i_data       - event data
    --     i_extra1     - free for the producer
    --     i_extra2     - free for the producer
    --     i_extra3     - free for the producer
    --     i_extra4     - free for the producer
    --
    -- Returns:
    --     event id, also of the event in the queue later
    --
    -- Raises:
    --     time is null; queue not found; queue closed for writing;
    --     queue_per_tx_limit is 0, or reached by an event inserted at once
    --
    -- Calls:
    --     pgq._open_queue(1), pgq.insert_event(7) for a time that is past
    --
    -- Tables:
    --     read   - pgq.queue
    --     insert - pgq.delayed_event
    --
    -- Locks:
    --     as pgq._open_queue(1)
    -- ----------------------------------------------------------------
declare
    v_queue record;
    v_id    bigint;
begin
    if i_deliver_at is null then
        raise exception 'time of delivery is null' using errcode = 'null_value_not_allowed';
    end if;
    v_queue := pgq._open_queue(i_queue_name);
    if i_deliver_at <= now() or v_queue.tx_limit = 0 then
        v_id := pgq.insert_event(i_queue_name, i_type, i_data, i_extra1, i_extra2, i_extra3, i_extra4);
        return v_id;
    end if;
    insert into pgq.delayed_event (ev_queue, ev_id, ev_deliver_at, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
    values (v_queue.queue_id, nextval(v_queue.event_seq::regclass), i_deliver_at, i_type, i_data,
            i_extra1, i_extra2, i_extra3, i_extra4)
    returning ev_id into v_id;
    return v_id;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
