create or replace function pgq.event_retry(x_batch_id bigint, x_event_id bigint, x_retry_time timestamptz)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.event_retry(3)
    --
    --     Puts one event of an open batch into the retry queue. From the given
    --     time on it is delivered again, to this consumer only. The batch stays
    --     open.
    --
    --     Security definer: consumers have no rights on pgq.retry_queue.
    --
    -- Parameters:
    --     x_batch_id   - open batch
    --     x_event_id   - event of that batch
    --     x_retry_time - when to deliver it again
    --
    -- Returns:
    --     1 - queued
    --     0 - this consumer has the event waiting already
    --
    -- Raises:
    --     batch not open; event not in the batch; time is null
    --
    -- Calls:
    --     pgq._find_batch(1), pgq._batch_event(2)
    --
    -- Tables:
    --     read   - data tables of the queue
    --     insert - pgq.retry_queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_sub   record;
    v_event record;
begin
    select f.* into v_sub from pgq._find_batch(x_batch_id) f;
    if v_sub.row_id is null then
        raise exception 'batch not found: %', coalesce(x_batch_id::text, '<null>')
            using errcode = 'undefined_object';
    end if;
    select e.* into v_event from pgq._batch_event(x_batch_id, x_event_id) e;
    if v_event.ev_id is null then
        raise exception 'event not found: batch %, event %', x_batch_id, coalesce(x_event_id::text, '<null>')
            using errcode = 'undefined_object';
    end if;
    insert into pgq.retry_queue (
        ev_retry_after, ev_queue, ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data,
        ev_extra1, ev_extra2, ev_extra3, ev_extra4)
    values (
        x_retry_time, v_sub.sub_queue, v_event.ev_id, v_event.ev_time, v_sub.sub_id,
        coalesce(v_event.ev_retry, 0) + 1, v_event.ev_type, v_event.ev_data,
        v_event.ev_extra1, v_event.ev_extra2, v_event.ev_extra3, v_event.ev_extra4)
    on conflict (ev_owner, ev_id) do nothing;
    return case when found then 1 else 0 end;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.event_retry(x_batch_id bigint, x_event_id bigint, x_retry_seconds integer)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.event_retry(3)
    --
    --     Puts one event of an open batch into the retry queue, to be
    --     delivered again after a delay.
    --
    -- Parameters:
    --     x_batch_id      - open batch
    --     x_event_id      - event of that batch
    --     x_retry_seconds - delay in seconds, may be negative
    --
    -- Returns:
    --     1 - queued
    --     0 - this consumer has the event waiting already
    --
    -- Raises:
    --     batch not open; event not in the batch; delay is null
    --
    -- Calls:
    --     pgq.event_retry(3)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return pgq.event_retry(x_batch_id, x_event_id, now() + make_interval(secs => x_retry_seconds));
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
