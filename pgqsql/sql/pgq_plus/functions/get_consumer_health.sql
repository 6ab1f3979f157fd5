create or replace function pgq.get_consumer_health(
    i_queue_name text, i_consumer_name text,
    out queue_name text, out consumer_name text, out registered boolean,
    out lag_seconds float8, out lag_ticks bigint, out pending_events bigint, out last_seen_seconds float8,
    out open_batches bigint, out batch_open_seconds float8, out holds_rotation boolean,
    out retry_events bigint, out retry_oldest_seconds float8, out dead_events bigint,
    out members_active bigint, out members_idle bigint, out members_stale bigint,
    out limit_action text, out state text, out state_since timestamptz, out note text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_consumer_health(2)
    --
    --     Health of consumers. A cooperative group is one row under the name
    --     of its main consumer; a consumer that was detached or left dead
    --     letters behind is shown, too. View pgq.consumer_health shows all.
    --
    --     Security definer: readers have no rights on pgq.retry_queue.
    --
    -- Parameters:
    --     i_queue_name    - queue name, null: all
    --     i_consumer_name - consumer name, null: all
    --
    -- Returns:
    --     registered         - it is registered on the queue
    --     lag_seconds        - age of the last finished tick; in a group of
    --                          the oldest one that an open batch starts after
    --     lag_ticks          - ticks since then
    --     pending_events     - events since then, about
    --     last_seen_seconds  - since anybody of it opened or closed a batch
    --     open_batches       - batches open now
    --     batch_open_seconds - time since the longest of them was opened or
    --                          touched
    --     holds_rotation     - a rotation is due and this consumer is behind
    --     retry_events       - its events in the retry queue, and the age of
    --                          the oldest
    --     dead_events        - its dead letters
    --     members_active     - members of the group with an open batch
    --     members_idle       - without
    --     members_stale      - of both, those silent for option
    --                          member_stale_after
    --     limit_action       - what is done when it is over its limit
    --     state              - warned, paused, resumed or detached; null: none
    --                          of them
    --     state_since, note  - when and why
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq._queue_option(2)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.tick, pgq.subscription, pgq.consumer,
    --              pgq.retry_queue, pgq.dead_letter, pgq.consumer_limit,
    --              pgq.consumer_state
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query
    with groups as materialized (
        select s.sub_queue, s.sub_id, (array_agg(c.co_name order by length(c.co_name)))[1] as name,
               min(s.sub_last_tick) as tick, max(s.sub_active) as seen, count(s.sub_batch) as open,
               min(s.sub_active) filter (where s.sub_batch is not null) as open_since, count(*) - 1 as members,
               count(*) filter (where s.sub_last_tick is null) as idle
          from pgq.subscription s
          join pgq.consumer c on c.co_id = s.sub_consumer
         group by s.sub_queue, s.sub_id
    ), retries as materialized (
        select r.ev_queue, r.ev_owner, count(*) as n, min(r.ev_time) as oldest
          from pgq.retry_queue r
         group by r.ev_queue, r.ev_owner
    ), deads as materialized (
        select d.dead_queue, d.dead_consumer, count(*) as n
          from pgq.dead_letter d
         group by d.dead_queue, d.dead_consumer
    ), names as (
        select g.sub_queue as queue, g.name from groups g
         union
        select d.dead_queue, d.dead_consumer from deads d
         union
        select t.state_queue, t.state_consumer from pgq.consumer_state t
    )
    select q.queue_name, n.name, g.sub_id is not null,
           extract(epoch from now() - coalesce(pos.tick_time, st.tick_time))::float8,
           (select count(*) from pgq.tick t where t.tick_queue = q.queue_id and t.tick_id > g.tick),
           greatest(newest.tick_event_seq - coalesce(pos.tick_event_seq, st.tick_event_seq), 0),
           extract(epoch from now() - g.seen)::float8,
           coalesce(g.open, 0), extract(epoch from now() - g.open_since)::float8,
           coalesce(now() > q.queue_switch_time + q.queue_rotation_period
                    and txid_snapshot_xmin(pos.tick_snapshot) <= q.queue_switch_step2
                    and txid_snapshot_xmin(newest.tick_snapshot) > q.queue_switch_step2, false),
           coalesce(r.n, 0), extract(epoch from now() - r.oldest)::float8, coalesce(d.n, 0),
           case when g.members > 0 then g.members - g.idle end, case when g.members > 0 then g.idle end,
           case when g.members > 0 then (
               select count(*)
                 from pgq.subscription s
                where s.sub_queue = g.sub_queue and s.sub_id = g.sub_id
                  and (s.sub_batch is not null or s.sub_last_tick is null)
                  and s.sub_active < now() - pgq._queue_option(s.sub_queue, 'member_stale_after')::interval) end,
           coalesce(own.limit_action, case when n.name not like '.%' then dflt.limit_action end),
           st.state, st.state_since, st.note
      from names n
      join pgq.queue q on q.queue_id = n.queue
      left join groups g on g.sub_queue = n.queue and g.name = n.name
      left join pgq.tick pos on pos.tick_queue = n.queue and pos.tick_id = g.tick
      left join lateral (
            select t.tick_event_seq, t.tick_snapshot
              from pgq.tick t
             where t.tick_queue = n.queue
             order by t.tick_queue desc, t.tick_id desc
             limit 1) newest on true
      left join retries r on r.ev_queue = n.queue and r.ev_owner = g.sub_id
      left join deads d on d.dead_queue = n.queue and d.dead_consumer = n.name
      left join pgq.consumer_state st on st.state_queue = n.queue and st.state_consumer = n.name
      left join pgq.consumer_limit own on own.limit_queue = n.queue and own.limit_consumer = n.name
      left join pgq.consumer_limit dflt on dflt.limit_queue = n.queue and dflt.limit_consumer is null
     where (q.queue_name = i_queue_name or i_queue_name is null)
       and (n.name = i_consumer_name or i_consumer_name is null)
     order by q.queue_name, n.name;
end;
$$ language plpgsql stable security definer set search_path = pg_catalog, pgq, pg_temp;
