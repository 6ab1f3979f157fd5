create or replace function pgq.event_retry_raw(
    x_queue text, x_consumer text, x_retry_after timestamptz,
    x_ev_id bigint, x_ev_time timestamptz, x_ev_retry integer, x_ev_type text, x_ev_data text,
    x_ev_extra1 text, x_ev_extra2 text, x_ev_extra3 text, x_ev_extra4 text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.event_retry_raw(12)
    --
    --     Puts any row into the retry queue, for one consumer.
    --
    -- Parameters:
    --     x_queue       - queue name
    --     x_consumer    - consumer name
    --     x_retry_after - when to deliver it
    --     x_ev_id       - event id, null: next of the queue's sequence
    --     x_ev_time     - creation time
    --     x_ev_retry    - number of redeliveries
    --     x_ev_type     - event type
    --     x_ev_data     - event data
    --     x_ev_extra1   - free for the producer
    --     x_ev_extra2   - free for the producer
    --     x_ev_extra3   - free for the producer
    --     x_ev_extra4   - free for the producer
    --
    -- Returns:
    --     event id
    --
    -- Raises:
    --     consumer not registered on the queue; the id is waiting for that
    --     consumer already; time is null
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer, pgq.subscription
    --     insert - pgq.retry_queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_queue pgq.queue%rowtype;
    v_owner integer;
    v_id    bigint := x_ev_id;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = x_queue;
    select s.sub_id into v_owner
      from pgq.subscription s
      join pgq.consumer c on c.co_id = s.sub_consumer
     where s.sub_queue = v_queue.queue_id
       and c.co_name = x_consumer;
    if not found then
        raise exception 'consumer % is not registered on queue %',
                coalesce(x_consumer, '<null>'), coalesce(x_queue, '<null>')
            using errcode = 'undefined_object';
    end if;
    if v_id is null then
        v_id := nextval(v_queue.queue_event_seq::regclass);
    end if;
    insert into pgq.retry_queue (
        ev_retry_after, ev_queue, ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data,
        ev_extra1, ev_extra2, ev_extra3, ev_extra4)
    values (
        x_retry_after, v_queue.queue_id, v_id, x_ev_time, v_owner, x_ev_retry,
        x_ev_type, x_ev_data, x_ev_extra1, x_ev_extra2, x_ev_extra3, x_ev_extra4);
    return v_id;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
