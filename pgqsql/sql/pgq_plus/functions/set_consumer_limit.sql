create or replace function pgq.set_consumer_limit(
    i_queue_name text, i_consumer_name text, i_action text, i_max_lag interval, i_max_ticks bigint, i_max_events bigint)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.set_consumer_limit(6)
    --
    --     Sets how far a consumer may lag and what maintenance does when it
    --     lags more: warn only notes it, pause asks skyd's own consumers to
    --     stop (see pgq.consumer_paused), detach unregisters the consumer and
    --     keeps its position for pgq.reattach_consumer; an ordered group is
    --     warned instead. Nothing of it happens
    --     unless it was set here.
    --
    --     The default of a queue does not hold for consumers whose names begin
    --     with a dot, which belong to the layers above.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - consumer, registered or not; null: default for the
    --                       consumers of the queue
    --     i_action        - warn, pause or detach; none exempts a consumer from
    --                       the default; null removes the limit
    --     i_max_lag       - age of the last finished tick
    --     i_max_ticks     - ticks behind
    --     i_max_events    - events behind, about. Null is no limit, over any
    --                       of the three is over the limit
    --
    -- Returns:
    --     1 - set, or removed
    --     0 - there was none to remove
    --
    -- Raises:
    --     queue not found; unknown action; nothing to measure, or what no
    --     consumer can reach
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue
    --     insert, update, delete - pgq.consumer_limit
    --
    -- Locks:
    --     the queue row
    -- ----------------------------------------------------------------
declare
    v_queue integer;
    v_count integer;
begin
    select q.queue_id into v_queue from pgq.queue q where q.queue_name = i_queue_name for no key update;
    if not found then
        raise exception 'queue not found: %', coalesce(i_queue_name, '<null>') using errcode = 'undefined_object';
    end if;
    if i_action not in ('none', 'warn', 'pause', 'detach') then
        raise exception 'unknown action of a consumer limit: %', i_action
            using errcode = 'invalid_parameter_value', hint = 'It is none, warn, pause or detach.';
    end if;
    if i_action <> 'none'
       and (num_nonnulls(i_max_lag, i_max_ticks, i_max_events) = 0
            or i_max_lag <= '0' or i_max_ticks < 0 or i_max_events < 0) then
        raise exception 'limit of consumer % cannot be measured', coalesce(i_consumer_name, '<default>')
            using errcode = 'invalid_parameter_value',
                  hint = 'Give a lag above zero, or ticks or events that are not negative.';
    end if;
    delete from pgq.consumer_limit l
     where l.limit_queue = v_queue and l.limit_consumer is not distinct from i_consumer_name;
    get diagnostics v_count = row_count;
    if i_action is null then
        return v_count;
    end if;
    insert into pgq.consumer_limit (limit_queue, limit_consumer, limit_action, max_lag, max_ticks, max_events)
    values (v_queue, i_consumer_name, i_action, i_max_lag, i_max_ticks, i_max_events);
    return 1;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
