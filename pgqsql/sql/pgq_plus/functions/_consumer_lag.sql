create or replace function pgq._consumer_lag(
    i_queue integer, i_sub_id integer,
    out last_tick bigint, out tick_time timestamptz, out tick_event_seq bigint,
    out lag interval, out lag_ticks bigint, out lag_events bigint)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._consumer_lag(2)
    --
    --     Position of a consumer, of a group the oldest that one of its open
    --     batches starts after, and how far that is from the newest tick.
    --
    -- Parameters:
    --     i_queue  - queue id
    --     i_sub_id - owner id, shared by a group
    --
    -- Returns:
    --     the position with its time and counter, and the distance; all null
    --     when it is not registered
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.subscription, pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    select t.tick_id, t.tick_time, t.tick_event_seq, now() - t.tick_time,
           (select count(*) from pgq.tick n where n.tick_queue = i_queue and n.tick_id > t.tick_id),
           greatest((select n.tick_event_seq
                       from pgq.tick n
                      where n.tick_queue = i_queue
                      order by n.tick_queue desc, n.tick_id desc
                      limit 1) - t.tick_event_seq, 0)
      into last_tick, tick_time, tick_event_seq, lag, lag_ticks, lag_events
      from pgq.tick t
     where t.tick_queue = i_queue
       and t.tick_id = (select min(s.sub_last_tick)
                          from pgq.subscription s
                         where s.sub_queue = i_queue and s.sub_id = i_sub_id);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
