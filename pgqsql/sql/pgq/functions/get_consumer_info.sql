create or replace function pgq.get_consumer_info(
    in i_queue_name text, in i_consumer_name text,
    out queue_name text, out consumer_name text, out lag interval, out last_seen interval,
    out last_tick bigint, out current_batch bigint, out next_tick bigint, out pending_events bigint)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_consumer_info(2)
    --
    --     State of the subscriptions of a queue, of a consumer, or of both.
    --
    --     Security definer, as in the contract.
    --
    -- Parameters:
    --     i_queue_name    - queue name, null: all queues
    --     i_consumer_name - consumer name, null: all consumers
    --
    -- Returns:
    --     one row for each subscription, by queue and consumer: lag (age of
    --     the last finished tick), last_seen (time since a batch was opened or
    --     closed), last_tick, current_batch, next_tick (end tick of the open
    --     batch), pending_events (up to the newest tick, by the event counter)
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer, pgq.subscription, pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query
        select q.queue_name, c.co_name, now() - t.tick_time, now() - s.sub_active,
               s.sub_last_tick, s.sub_batch, s.sub_next_tick,
               top.tick_event_seq - t.tick_event_seq
          from pgq.queue q
          join pgq.subscription s on s.sub_queue = q.queue_id
          join pgq.consumer c on c.co_id = s.sub_consumer
          left join pgq.tick t on t.tick_queue = q.queue_id and t.tick_id = s.sub_last_tick
          left join lateral (
                   select n.tick_event_seq from pgq.tick n
                    where n.tick_queue = q.queue_id
                    order by n.tick_id desc limit 1) top on true
         where (i_queue_name is null or q.queue_name = i_queue_name)
           and (i_consumer_name is null or c.co_name = i_consumer_name)
         order by q.queue_name, c.co_name;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.get_consumer_info(
    in i_queue_name text,
    out queue_name text, out consumer_name text, out lag interval, out last_seen interval,
    out last_tick bigint, out current_batch bigint, out next_tick bigint, out pending_events bigint)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_consumer_info(1)
    --
    --     State of the subscriptions of a queue.
    --
    -- Parameters:
    --     i_queue_name - queue name, null: all queues
    --
    -- Returns:
    --     as pgq.get_consumer_info(2)
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.get_consumer_info(2)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query select i.* from pgq.get_consumer_info(i_queue_name, null) i;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.get_consumer_info(
    out queue_name text, out consumer_name text, out lag interval, out last_seen interval,
    out last_tick bigint, out current_batch bigint, out next_tick bigint, out pending_events bigint)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_consumer_info(0)
    --
    --     State of all subscriptions.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     as pgq.get_consumer_info(2)
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.get_consumer_info(2)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query select i.* from pgq.get_consumer_info(null, null) i;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
