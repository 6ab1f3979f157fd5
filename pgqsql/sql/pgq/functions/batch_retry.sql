create or replace function pgq.batch_retry(i_batch_id bigint, i_retry_seconds integer)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.batch_retry(2)
    --
    --     Puts all events of an open batch into the retry queue. The batch
    --     stays open.
    --
    --     Security definer: consumers have no rights on pgq.retry_queue.
    --
    -- Parameters:
    --     i_batch_id      - open batch
    --     i_retry_seconds - delay in seconds, may be negative
    --
    -- Returns:
    --     number of events queued; those already waiting are skipped
    --
    -- Raises:
    --     batch not open; delay is null
    --
    -- Calls:
    --     pgq._find_batch(1), pgq.batch_event_sql(1)
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
    v_count integer;
begin
    select f.* into v_sub from pgq._find_batch(i_batch_id) f;
    if v_sub.row_id is null then
        raise exception 'batch not found: %', coalesce(i_batch_id::text, '<null>')
            using errcode = 'undefined_object';
    end if;
    execute
        'insert into pgq.retry_queue ('
        ' ev_retry_after, ev_queue, ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data,'
        ' ev_extra1, ev_extra2, ev_extra3, ev_extra4)'
        ' select $1, $2, ev_id, ev_time, $3, coalesce(ev_retry, 0) + 1, ev_type, ev_data,'
        ' ev_extra1, ev_extra2, ev_extra3, ev_extra4'
        ' from (' || pgq.batch_event_sql(i_batch_id) || ') ev'
        ' on conflict (ev_owner, ev_id) do nothing'
    using now() + make_interval(secs => i_retry_seconds), v_sub.sub_queue, v_sub.sub_id;
    get diagnostics v_count = row_count;
    return v_count;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
