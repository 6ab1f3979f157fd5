create or replace function pgq.insert_event(queue_name text, ev_type text, ev_data text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.insert_event(3)
    --
    --     Inserts an event into a queue. It is delivered to every consumer
    --     after the surrounding transaction has committed.
    --
    --     Security definer: producers have no rights on the event tables.
    --
    -- Parameters:
    --     queue_name - queue name
    --     ev_type    - event type, free for the producer
    --     ev_data    - event data, free for the producer
    --
    -- Returns:
    --     event id
    --
    -- Raises:
    --     as pgq.insert_event(7)
    --
    -- Calls:
    --     pgq._open_slot(1), pgq.insert_event_raw(11)
    --
    -- Tables:
    --     read   - pgq.queue
    --     insert - current data table of the queue
    --
    -- Locks:
    --     as pgq.insert_event(7)
    -- ----------------------------------------------------------------
declare
    v_id bigint;
begin
    -- by generated code, when this transaction knows the current table
    v_id := skyd_gen.insert_event(hashtext(queue_name), queue_name, ev_type, ev_data,
                                  null, null, null, null);
    if v_id is null then
        if pgq._open_slot(queue_name) then
            v_id := skyd_gen.insert_event(hashtext(queue_name), queue_name, ev_type, ev_data,
                                          null, null, null, null);
        end if;
        if v_id is null then
            v_id := pgq.insert_event_raw(queue_name, null, null, null, null, ev_type, ev_data,
                                         null, null, null, null);
        end if;
    end if;
    return v_id;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.insert_event(
    queue_name text, ev_type text, ev_data text,
    ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.insert_event(7)
    --
    --     Inserts an event with all its free fields. The creation time is
    --     now(), the start of the transaction.
    --
    --     The plain case is done by code that is generated from pgq.queue, see
    --     pgq._inserters(0), and costs about what the C extension does. Queues
    --     with a limit, closed ones, and code that is out of date go through
    --     pgq.insert_event_raw(11).
    --
    --     Capture triggers call it too, once for each row: by an assignment
    --     (v := pgq.insert_event(..)), which PL/pgSQL runs without a query,
    --     unlike PERFORM. For many rows at once there is
    --     pgq.insert_events(7).
    --
    --     Security definer: producers have no rights on the event tables.
    --
    -- Parameters:
    --     queue_name - queue name
    --     ev_type    - event type, free for the producer
    --     ev_data    - event data, free for the producer
    --     ev_extra1  - free for the producer
    --     ev_extra2  - free for the producer
    --     ev_extra3  - free for the producer
    --     ev_extra4  - free for the producer
    --
    -- Returns:
    --     event id
    --
    -- Raises:
    --     as pgq.insert_event_raw(11)
    --
    -- Calls:
    --     pgq._open_slot(1), pgq.insert_event_raw(11)
    --
    -- Tables:
    --     read   - pgq.queue
    --     insert - current data table of the queue
    --
    -- Locks:
    --     as pgq.insert_event_raw(11)
    -- ----------------------------------------------------------------
declare
    v_id bigint;
begin
    -- by generated code, when this transaction knows the current table
    v_id := skyd_gen.insert_event(hashtext(queue_name), queue_name, ev_type, ev_data,
                                  ev_extra1, ev_extra2, ev_extra3, ev_extra4);
    if v_id is null then
        if pgq._open_slot(queue_name) then
            v_id := skyd_gen.insert_event(hashtext(queue_name), queue_name, ev_type, ev_data,
                                          ev_extra1, ev_extra2, ev_extra3, ev_extra4);
        end if;
        if v_id is null then
            v_id := pgq.insert_event_raw(queue_name, null, null, null, null, ev_type, ev_data,
                                         ev_extra1, ev_extra2, ev_extra3, ev_extra4);
        end if;
    end if;
    return v_id;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
