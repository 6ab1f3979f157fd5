create or replace function pgq.insert_event(queue_name text, ev_type text, ev_data text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.insert_event(3)
    --
    --     Inserts an event into a queue. It is delivered to every consumer
    --     after the surrounding transaction has committed.
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
    --     pgq.insert_event(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_event(7)
    -- ----------------------------------------------------------------
begin
    return pgq.insert_event(queue_name, ev_type, ev_data, null, null, null, null);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

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
    --     pgq.insert_event_raw(11)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_event_raw(11)
    -- ----------------------------------------------------------------
begin
    return pgq.insert_event_raw(queue_name, null, null, null, null,
                                ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
