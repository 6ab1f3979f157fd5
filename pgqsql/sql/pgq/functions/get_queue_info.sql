create or replace function pgq.get_queue_info(
    in i_queue_name text,
    out queue_name text, out queue_ntables integer, out queue_cur_table integer,
    out queue_rotation_period interval, out queue_switch_time timestamptz,
    out queue_external_ticker boolean, out queue_ticker_paused boolean,
    out queue_ticker_max_count integer, out queue_ticker_max_lag interval,
    out queue_ticker_idle_period interval, out ticker_lag interval,
    out ev_per_sec float8, out ev_new bigint, out last_tick_id bigint)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_queue_info(1)
    --
    --     State of one queue or of all.
    --
    -- Parameters:
    --     i_queue_name - queue name, null: all queues
    --
    -- Returns:
    --     one row for each queue, by name: its settings, ticker_lag (age of
    --     the newest tick), ev_per_sec (events per second over about the last
    --     20 ticks, null when their times are equal), ev_new (events since the
    --     newest tick, by the event counter), last_tick_id
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq._event_count(1)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.tick, event sequences
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query
        select q.queue_name, q.queue_ntables, q.queue_cur_table, q.queue_rotation_period,
               q.queue_switch_time, q.queue_external_ticker, q.queue_ticker_paused,
               q.queue_ticker_max_count, q.queue_ticker_max_lag, q.queue_ticker_idle_period,
               now() - top.tick_time,
               (top.tick_event_seq - low.tick_event_seq)
                   / nullif(extract(epoch from top.tick_time - low.tick_time), 0)::float8,
               pgq._event_count(q.queue_event_seq) - top.tick_event_seq,
               top.tick_id
          from pgq.queue q
          left join lateral (
                   select t.* from pgq.tick t
                    where t.tick_queue = q.queue_id
                    order by t.tick_id desc limit 1) top on true
          left join lateral (
                   select t.* from pgq.tick t
                    where t.tick_queue = q.queue_id and t.tick_id >= top.tick_id - 20
                    order by t.tick_id limit 1) low on true
         where i_queue_name is null or q.queue_name = i_queue_name
         order by q.queue_name;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.get_queue_info(
    out queue_name text, out queue_ntables integer, out queue_cur_table integer,
    out queue_rotation_period interval, out queue_switch_time timestamptz,
    out queue_external_ticker boolean, out queue_ticker_paused boolean,
    out queue_ticker_max_count integer, out queue_ticker_max_lag interval,
    out queue_ticker_idle_period interval, out ticker_lag interval,
    out ev_per_sec float8, out ev_new bigint, out last_tick_id bigint)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_queue_info(0)
    --
    --     State of all queues.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     as pgq.get_queue_info(1)
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.get_queue_info(1)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query select i.* from pgq.get_queue_info(null) i;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
