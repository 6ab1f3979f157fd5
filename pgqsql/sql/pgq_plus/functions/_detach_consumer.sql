create or replace function pgq._detach_consumer(i_queue integer, i_sub_id integer, i_limit pgq.consumer_limit)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._detach_consumer(3)
    --
    --     Unregisters a consumer that is over its limit and keeps its
    --     position. Its events in the retry queue become dead letters, which
    --     pgq.reattach_consumer gives back.
    --
    --     Its subscriptions are locked before the position is read and the
    --     limit tested: a batch that is being finished is counted, and a
    --     finish that comes later answers 0. Otherwise the position kept could
    --     be one that the consumer has left behind already.
    --
    -- Parameters:
    --     i_queue  - queue id
    --     i_sub_id - owner id, shared by a group
    --     i_limit  - limit
    --
    -- Returns:
    --     false when it is within its limit after all, or gone
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq._main_consumer(2), pgq._consumer_lag(2), pgq._consumer_over(4),
    --     pgq.unregister_consumer(2)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.subscription
    --     insert - pgq.consumer_state, pgq.consumer_action, pgq.dead_letter
    --     delete - pgq.subscription, pgq.consumer, pgq.retry_queue
    --
    -- Locks:
    --     the subscription rows of the consumer; share update exclusive on
    --     pgq.retry_queue, as pgq.maint_dead_letters(0)
    -- ----------------------------------------------------------------
declare
    v_name text;
    v_lag  record;
    v_over text;
begin
    perform 1
       from pgq.subscription s
      where s.sub_queue = i_queue and s.sub_id = i_sub_id
      order by s.sub_consumer
        for update;
    v_name := pgq._main_consumer(i_queue, i_sub_id);
    v_lag := pgq._consumer_lag(i_queue, i_sub_id);
    v_over := pgq._consumer_over(i_limit, v_lag.lag, v_lag.lag_ticks, v_lag.lag_events);
    if v_name is null or v_over is null then
        return false;
    end if;

    lock table pgq.retry_queue in share update exclusive mode;
    insert into pgq.dead_letter as d (
        dead_queue, dead_consumer, dead_reason, ev_id, ev_time, ev_retry, ev_type, ev_data,
        ev_extra1, ev_extra2, ev_extra3, ev_extra4)
    select r.ev_queue, v_name, 'consumer detached', r.ev_id, r.ev_time, r.ev_retry, r.ev_type, r.ev_data,
           r.ev_extra1, r.ev_extra2, r.ev_extra3, r.ev_extra4
      from pgq.retry_queue r
     where r.ev_queue = i_queue and r.ev_owner = i_sub_id
    on conflict (dead_queue, dead_consumer, ev_id) do update
       set dead_time = now(), dead_reason = excluded.dead_reason, ev_time = excluded.ev_time,
           ev_txid = excluded.ev_txid, ev_retry = excluded.ev_retry, ev_type = excluded.ev_type,
           ev_data = excluded.ev_data, ev_extra1 = excluded.ev_extra1, ev_extra2 = excluded.ev_extra2,
           ev_extra3 = excluded.ev_extra3, ev_extra4 = excluded.ev_extra4;
    perform pgq.unregister_consumer((select q.queue_name from pgq.queue q where q.queue_id = i_queue), v_name);

    insert into pgq.consumer_state as t (state_queue, state_consumer, state, last_tick, tick_time, tick_event_seq, note)
    values (i_queue, v_name, 'detached', v_lag.last_tick, v_lag.tick_time, v_lag.tick_event_seq, v_over)
    on conflict (state_queue, state_consumer) do update
       set state = 'detached', state_since = now(), last_tick = excluded.last_tick, tick_time = excluded.tick_time,
           tick_event_seq = excluded.tick_event_seq, note = excluded.note;
    insert into pgq.consumer_action (action_queue, action_consumer, action, lag, lag_ticks, lag_events, last_tick, note)
    values (i_queue, v_name, 'detach', v_lag.lag, v_lag.lag_ticks, v_lag.lag_events, v_lag.last_tick, v_over);
    return true;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
