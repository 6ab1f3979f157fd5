create or replace function pgq.dead_letter_redrive(
    i_queue_name text, i_consumer_name text, i_ev_type text, i_before timestamptz, i_limit integer)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.dead_letter_redrive(5)
    --
    --     Sends dead letters back to the consumer that gave them up, and to no
    --     other: they go through the retry queue, at once, and their count of
    --     redeliveries starts anew. Each is locked while it moves and moves
    --     once, whoever else redrives at the same time.
    --
    --     Dead letters of a consumer that is not registered stay where they
    --     are, and so does one whose event is waiting for it already.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - consumer name, null: all of the queue
    --     i_ev_type       - only events of this type, null: all
    --     i_before        - only those that died before, null: all
    --     i_limit         - most of them, the oldest first, null: all
    --
    -- Returns:
    --     number of events sent back
    --
    -- Raises:
    --     queue not found; the named consumer is not registered on it
    --
    -- Calls:
    --     pgq._dead_letters_back(1)
    --
    -- Tables:
    --     read   - pgq.dead_letter, pgq.queue, pgq.consumer, pgq.subscription
    --
    -- Locks:
    --     the dead letters it moves; passes over those that others have locked
    -- ----------------------------------------------------------------
declare
    v_queue integer;
begin
    select q.queue_id into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    if not found then
        raise exception 'queue not found: %', coalesce(i_queue_name, '<null>') using errcode = 'undefined_object';
    end if;
    if i_consumer_name is not null then
        perform 1
           from pgq.subscription s
           join pgq.consumer c on c.co_id = s.sub_consumer
          where s.sub_queue = v_queue and c.co_name = i_consumer_name;
        if not found then
            raise exception 'consumer % is not registered on queue %', i_consumer_name, i_queue_name
                using errcode = 'undefined_object';
        end if;
    end if;
    return pgq._dead_letters_back(array(
        select d.dead_id
          from pgq.dead_letter d
         where d.dead_queue = v_queue
           and (d.dead_consumer = i_consumer_name or i_consumer_name is null)
           and (d.ev_type = i_ev_type or i_ev_type is null)
           and (d.dead_time < i_before or i_before is null)
         order by d.dead_id
         limit i_limit
           for update skip locked));
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.dead_letter_redrive(i_dead_id bigint)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.dead_letter_redrive(1)
    --
    --     Sends one dead letter back to its consumer.
    --
    -- Parameters:
    --     i_dead_id - its number
    --
    -- Returns:
    --     1 - sent back
    --     0 - it does not exist (any more), or its event is waiting already
    --
    -- Raises:
    --     its consumer is not registered any more
    --
    -- Calls:
    --     pgq._dead_letters_back(1)
    --
    -- Tables:
    --     read   - pgq.dead_letter, pgq.queue, pgq.consumer, pgq.subscription
    --
    -- Locks:
    --     the dead letter; waits for another redrive of it
    -- ----------------------------------------------------------------
declare
    v_dead pgq.dead_letter%rowtype;
begin
    select d.* into v_dead from pgq.dead_letter d where d.dead_id = i_dead_id for update;
    if not found then
        return 0;
    end if;
    perform 1
       from pgq.subscription s
       join pgq.consumer c on c.co_id = s.sub_consumer
      where s.sub_queue = v_dead.dead_queue and c.co_name = v_dead.dead_consumer;
    if not found then
        raise exception 'consumer % is not registered on queue %', v_dead.dead_consumer,
                (select q.queue_name from pgq.queue q where q.queue_id = v_dead.dead_queue)
            using errcode = 'undefined_object', hint = 'Register it, or purge the dead letter.';
    end if;
    return pgq._dead_letters_back(array[i_dead_id]);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
