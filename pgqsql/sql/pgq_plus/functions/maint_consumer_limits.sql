create or replace function pgq.maint_consumer_limits()
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.maint_consumer_limits(0)
    --
    --     Compares every consumer that has a limit with it, and acts: see
    --     pgq.set_consumer_limit. What it does is in pgq.consumer_action with
    --     the figures of that moment, what holds now in pgq.consumer_state.
    --     A consumer that is back within its limit is noted as recovered.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     0
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq._consumer_lag(2), pgq._consumer_over(4), pgq._detach_consumer(3)
    --
    -- Tables:
    --     read   - pgq.consumer_limit, pgq.subscription, pgq.consumer,
    --              pgq.slot_group
    --     insert, update, delete - pgq.consumer_state, pgq.consumer_action
    --
    -- Locks:
    --     advisory lock (1885827447, 0) until the transaction ends, without
    --     waiting; as pgq._detach_consumer(3)
    -- ----------------------------------------------------------------
declare
    v_sub   record;
    v_limit pgq.consumer_limit%rowtype;
    v_lag   record;
    v_state text;
    v_new   text;
    v_over  text;
begin
    if not pg_try_advisory_xact_lock(1885827447, 0) then
        return 0;
    end if;
    -- what is known of consumers that are gone, have come back by themselves,
    -- or have no limit any more
    delete from pgq.consumer_state t
     where t.state <> 'detached'
       and not exists (select 1 from pgq.consumer_limit l where l.limit_queue = t.state_queue);
    delete from pgq.consumer_state t
     where (t.state = 'detached') = exists (
               select 1
                 from pgq.subscription s
                 join pgq.consumer c on c.co_id = s.sub_consumer
                where s.sub_queue = t.state_queue and c.co_name = t.state_consumer);

    for v_sub in
        select s.sub_queue, s.sub_id, (array_agg(c.co_name order by length(c.co_name)))[1] as name
          from pgq.subscription s
          join pgq.consumer c on c.co_id = s.sub_consumer
         where s.sub_queue in (select l.limit_queue from pgq.consumer_limit l)
         group by s.sub_queue, s.sub_id
         order by s.sub_queue, s.sub_id
    loop
        select l.* into v_limit
          from pgq.consumer_limit l
         where l.limit_queue = v_sub.sub_queue
           and (l.limit_consumer = v_sub.name or (l.limit_consumer is null and v_sub.name not like '.%'))
         order by l.limit_consumer is null
         limit 1;
        v_lag := pgq._consumer_lag(v_sub.sub_queue, v_sub.sub_id);
        v_over := case when v_limit.limit_action <> 'none'
                       then pgq._consumer_over(v_limit, v_lag.lag, v_lag.lag_ticks, v_lag.lag_events) end;
        select t.state into v_state
          from pgq.consumer_state t
         where t.state_queue = v_sub.sub_queue and t.state_consumer = v_sub.name;

        if v_over is null then
            if v_state is not null then
                delete from pgq.consumer_state t
                 where t.state_queue = v_sub.sub_queue and t.state_consumer = v_sub.name;
                insert into pgq.consumer_action (
                    action_queue, action_consumer, action, lag, lag_ticks, lag_events, last_tick, note)
                values (v_sub.sub_queue, v_sub.name, 'recovered', v_lag.lag, v_lag.lag_ticks, v_lag.lag_events,
                        v_lag.last_tick, 'was ' || v_state);
            end if;
            continue;
        end if;
        -- an ordered group keeps the positions of its slots only while it is registered
        if v_limit.limit_action = 'detach' and exists (
               select 1
                 from pgq.slot_group g
                 join pgq.subscription s on s.sub_queue = g.queue_id and s.sub_consumer = g.consumer_id
                where s.sub_queue = v_sub.sub_queue and s.sub_id = v_sub.sub_id) then
            v_limit.limit_action := 'warn';
            v_over := v_over || ' (an ordered group is not detached)';
        end if;
        if v_limit.limit_action = 'detach' and v_state is distinct from 'resumed' then
            perform pgq._detach_consumer(v_sub.sub_queue, v_sub.sub_id, v_limit);
            continue;
        end if;
        -- one that was resumed or reattached by hand may catch up
        v_new := case when v_limit.limit_action = 'warn' then 'warned'
                      when v_state = 'resumed' then 'resumed' else 'paused' end;
        insert into pgq.consumer_state as t (state_queue, state_consumer, state, last_tick, tick_time, tick_event_seq, note)
        values (v_sub.sub_queue, v_sub.name, v_new, v_lag.last_tick, v_lag.tick_time, v_lag.tick_event_seq, v_over)
        on conflict (state_queue, state_consumer) do update
           set state = excluded.state, last_tick = excluded.last_tick, tick_time = excluded.tick_time,
               tick_event_seq = excluded.tick_event_seq, note = excluded.note,
               state_since = case when t.state = excluded.state then t.state_since else now() end;
        if v_new is distinct from v_state then
            insert into pgq.consumer_action (
                action_queue, action_consumer, action, lag, lag_ticks, lag_events, last_tick, note)
            values (v_sub.sub_queue, v_sub.name, v_limit.limit_action, v_lag.lag, v_lag.lag_ticks, v_lag.lag_events,
                    v_lag.last_tick, v_over);
        end if;
    end loop;
    return 0;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
