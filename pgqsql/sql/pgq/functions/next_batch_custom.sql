create or replace function pgq.next_batch_custom(
    in i_queue_name text, in i_consumer_name text,
    in i_min_lag interval, in i_min_count int4, in i_min_interval interval,
    out batch_id int8, out cur_tick_id int8, out prev_tick_id int8,
    out cur_tick_time timestamptz, out prev_tick_time timestamptz,
    out cur_tick_event_seq int8, out prev_tick_event_seq int8)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.next_batch_custom(5)
    --
    --     Opens the consumer's next batch with wishes for its size. A batch
    --     that is open already is returned as it is, whatever the wishes.
    --
    --     A call that finds nothing writes nothing. Before a batch is opened
    --     the subscription is locked and read again: of two sessions that ask
    --     at once both get the same batch.
    --
    --     Security definer: consumers have no right to write the subscription.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - consumer name
    --     i_min_lag       - the end tick must be at least this old
    --     i_min_count     - events wanted at least, by the event counter
    --     i_min_interval  - time the batch shall span at least
    --
    -- Returns:
    --     batch_id, end tick (cur_*) and start tick (prev_*) with time and
    --     event counter; all null when no batch fits yet
    --
    -- Raises:
    --     consumer not registered on the queue; its position tick is gone; the
    --     consumer is a cooperative group, whose batches go to its members
    --
    -- Calls:
    --     pgq.find_tick_helper(6)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer, pgq.tick
    --     update - pgq.subscription
    --
    -- Locks:
    --     the subscription row, when a batch is opened; waits for another
    --     session of the same consumer
    -- ----------------------------------------------------------------
declare
    v_sub  pgq.subscription%rowtype;
    v_pos  bigint;
    v_prev pgq.tick%rowtype;
    v_next record;
begin
    select s.* into v_sub
      from pgq.queue q
      join pgq.subscription s on s.sub_queue = q.queue_id
      join pgq.consumer c on c.co_id = s.sub_consumer
     where q.queue_name = i_queue_name
       and c.co_name = i_consumer_name;
    if not found then
        raise exception 'consumer % is not registered on queue %',
                coalesce(i_consumer_name, '<null>'), coalesce(i_queue_name, '<null>')
            using errcode = 'undefined_object';
    end if;

    while v_sub.sub_batch is null loop
        v_pos := v_sub.sub_last_tick;
        select t.* into v_prev
          from pgq.tick t
         where t.tick_queue = v_sub.sub_queue and t.tick_id = v_pos;
        if not found then
            raise exception 'position of consumer % on queue % is gone: tick %',
                    i_consumer_name, i_queue_name, coalesce(v_pos::text, '<null>')
                using errcode = 'object_not_in_prerequisite_state',
                      hint = 'Move it to an existing tick with pgq.register_consumer_at.';
        end if;
        if i_min_count is null and i_min_interval is null then
            select t.tick_id as next_tick_id, t.tick_time as next_tick_time into v_next
              from pgq.tick t
             where t.tick_queue = v_sub.sub_queue and t.tick_id > v_pos
             order by t.tick_id
             limit 1;
        else
            select f.next_tick_id, f.next_tick_time into v_next
              from pgq.find_tick_helper(v_sub.sub_queue, v_pos, v_prev.tick_time, v_prev.tick_event_seq,
                                        i_min_count, i_min_interval) f;
        end if;
        if v_next.next_tick_id is null or now() - v_next.next_tick_time < i_min_lag then
            return;
        end if;

        select s.* into v_sub
          from pgq.subscription s
         where s.sub_queue = v_sub.sub_queue and s.sub_consumer = v_sub.sub_consumer
           for no key update;
        if not found then
            raise exception 'consumer % was unregistered from queue %', i_consumer_name, i_queue_name
                using errcode = 'undefined_object';
        end if;
        if exists (select 1 from pgq.subscription o
                    where o.sub_queue = v_sub.sub_queue
                      and o.sub_id = v_sub.sub_id
                      and o.sub_consumer <> v_sub.sub_consumer) then
            raise exception 'consumer % on queue % is a cooperative group', i_consumer_name, i_queue_name
                using errcode = 'object_in_use', hint = 'Its batches go to its members: pgq_coop.next_batch.';
        end if;
        if v_sub.sub_batch is null and v_sub.sub_last_tick = v_pos then
            update pgq.subscription s
               set sub_batch = nextval('pgq.batch_id_seq'),
                   sub_next_tick = v_next.next_tick_id,
                   sub_active = now()
             where s.sub_queue = v_sub.sub_queue and s.sub_consumer = v_sub.sub_consumer
            returning s.* into v_sub;
        end if;
    end loop;

    select v_sub.sub_batch, cur.tick_id, prev.tick_id, cur.tick_time, prev.tick_time,
           cur.tick_event_seq, prev.tick_event_seq
      into batch_id, cur_tick_id, prev_tick_id, cur_tick_time, prev_tick_time,
           cur_tick_event_seq, prev_tick_event_seq
      from pgq.tick cur, pgq.tick prev
     where cur.tick_queue = v_sub.sub_queue and cur.tick_id = v_sub.sub_next_tick
       and prev.tick_queue = v_sub.sub_queue and prev.tick_id = v_sub.sub_last_tick;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
