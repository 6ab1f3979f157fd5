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
    --     A call that finds nothing writes nothing. The batch is opened only
    --     in the version of the subscription that was read: of two sessions
    --     that ask at once both get the same batch.
    --
    --     The subscription is read as pgq._subscription does, and why.
    --
    --     Security definer: consumers have no right to write the subscription.
    --
    --     Where commits are asynchronous, the one that opens a batch is not:
    --     consumers keep its number, or that of its tick, in other databases
    --     (pgq_ext), and a crash that forgets it would give it to other events.
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
    --     pgq.find_tick_helper(6), pgq._refuse_group(3)
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
    v_queue    integer;
    v_consumer integer;
    v_sub      record;
    v_prev     pgq.tick%rowtype;
    v_next     record;
begin
    select q.queue_id, c.co_id into v_queue, v_consumer
      from pgq.queue q
     cross join pgq.consumer c
     where q.queue_name = i_queue_name
       and c.co_name = i_consumer_name;

    loop
        select s.ctid, s.sub_id, s.sub_last_tick, s.sub_batch, s.sub_next_tick into v_sub
          from pgq.subscription s
         where (s.sub_queue, s.sub_consumer) >= (v_queue, v_consumer)
           and (s.sub_queue, s.sub_consumer) <= (v_queue, v_consumer)
         order by s.sub_queue desc, s.sub_consumer desc
         limit 1;
        if not found then
            raise exception 'consumer % is not registered on queue %',
                    coalesce(i_consumer_name, '<null>'), coalesce(i_queue_name, '<null>')
                using errcode = 'undefined_object';
        end if;
        exit when v_sub.sub_batch is not null;

        select t.* into v_prev
          from pgq.tick t
         where t.tick_queue = v_queue and t.tick_id = v_sub.sub_last_tick;
        if not found then
            raise exception 'position of consumer % on queue % is gone: tick %',
                    i_consumer_name, i_queue_name, coalesce(v_sub.sub_last_tick::text, '<null>')
                using errcode = 'object_not_in_prerequisite_state',
                      hint = 'Move it to an existing tick with pgq.register_consumer_at.';
        end if;
        if i_min_count is null and i_min_interval is null then
            select t.tick_id as next_tick_id, t.tick_time as next_tick_time, t.tick_event_seq as next_tick_seq
              into v_next
              from pgq.tick t
             where t.tick_queue = v_queue and t.tick_id > v_sub.sub_last_tick
             order by t.tick_id
             limit 1;
        else
            select f.next_tick_id, f.next_tick_time, f.next_tick_seq into v_next
              from pgq.find_tick_helper(v_queue, v_sub.sub_last_tick, v_prev.tick_time, v_prev.tick_event_seq,
                                        i_min_count, i_min_interval) f;
        end if;
        if v_next.next_tick_id is null or now() - v_next.next_tick_time < i_min_lag then
            perform pgq._refuse_group(v_queue, i_consumer_name, v_sub.sub_id);
            return;
        end if;

        update pgq.subscription s
           set sub_batch = nextval('pgq.batch_id_seq'),
               sub_next_tick = v_next.next_tick_id,
               sub_active = now()
         where s.ctid = v_sub.ctid
           and s.sub_queue = v_queue and s.sub_consumer = v_consumer
           and s.sub_batch is null and s.sub_last_tick = v_prev.tick_id
        returning s.sub_batch into batch_id;
        if found then
            -- under the lock of our update no member can come
            perform pgq._refuse_group(v_queue, i_consumer_name, v_sub.sub_id);
            -- numbers of batches and ticks are remembered in other databases: a crash must not give them out again
            if current_setting('synchronous_commit') = 'off' then
                perform set_config('synchronous_commit', 'local', true);
            end if;
            cur_tick_id := v_next.next_tick_id;
            cur_tick_time := v_next.next_tick_time;
            cur_tick_event_seq := v_next.next_tick_seq;
            prev_tick_id := v_prev.tick_id;
            prev_tick_time := v_prev.tick_time;
            prev_tick_event_seq := v_prev.tick_event_seq;
            return;
        end if;
        -- another session was faster: look again
    end loop;

    batch_id := v_sub.sub_batch;
    select cur.tick_id, cur.tick_time, cur.tick_event_seq, prev.tick_id, prev.tick_time, prev.tick_event_seq
      into cur_tick_id, cur_tick_time, cur_tick_event_seq, prev_tick_id, prev_tick_time, prev_tick_event_seq
      from pgq.tick cur
     cross join pgq.tick prev
     where cur.tick_queue = v_queue and cur.tick_id = v_sub.sub_next_tick
       and prev.tick_queue = v_queue and prev.tick_id = v_sub.sub_last_tick;
end;
$$ language plpgsql volatile security definer
set search_path = pg_catalog, pgq, pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off;
