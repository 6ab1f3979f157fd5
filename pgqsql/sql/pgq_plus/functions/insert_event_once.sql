create or replace function pgq.insert_event_once(
    i_queue_name text, i_key text, i_ttl interval, i_type text, i_data text,
    i_extra1 text default null, i_extra2 text default null, i_extra3 text default null, i_extra4 text default null,
    out id bigint, out duplicate boolean)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.insert_event_once(9)
    --
    --     Inserts an event unless one with this key was inserted into the
    --     queue before, in a transaction that committed, not longer than its
    --     ttl ago. For clients that repeat a request whose answer they lost.
    --
    --     Key and event live and die with the transaction. Two that insert the
    --     same key at once take turns: the second one waits for the end of the
    --     first. Expired keys are removed by maintenance.
    --
    --     Security definer: producers have no rights on the tables.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_key        - any text but null, one space of names for each queue
    --     i_ttl        - how long the key is remembered, more than 0
    --     i_type       - event type
    --     i_data       - event data
    --     i_extra1     - free for the producer
    --     i_extra2     - free for the producer
    --     i_extra3     - free for the producer
    --     i_extra4     - free for the producer
    --
    -- Returns:
    --     id        - id of the event, also when it is the earlier one
    --     duplicate - true: nothing was inserted
    --
    -- Raises:
    --     key or ttl null, ttl not positive; otherwise as pgq.insert_events(7);
    --     at repeatable read and above also 40001 when another transaction
    --     has just inserted the key
    --
    -- Calls:
    --     pgq._open_queue(1), pgq.insert_event_raw(11) for queues with a limit
    --
    -- Tables:
    --     read           - pgq.queue
    --     insert, update - pgq.event_key
    --     insert         - current data table of the queue
    --
    -- Locks:
    --     as pgq._open_queue(1); the row of the key until the transaction ends
    -- ----------------------------------------------------------------
declare
    v_queue record;
begin
    if i_key is null or i_ttl is null then
        raise exception 'key or ttl is null' using errcode = 'null_value_not_allowed';
    end if;
    if i_ttl <= '0' then
        raise exception 'ttl must be more than 0, not %', i_ttl using errcode = 'invalid_parameter_value';
    end if;
    v_queue := pgq._open_queue(i_queue_name);
    -- a known key must not cost an event id: the ticker would tick for it
    select k.ev_id into id
      from pgq.event_key k
     where k.queue_id = v_queue.queue_id and k.event_key = i_key and k.expires_at > now();
    duplicate := found;
    if duplicate then
        return;
    end if;
    loop
        insert into pgq.event_key as k (queue_id, event_key, ev_id, expires_at)
        values (v_queue.queue_id, i_key, nextval(v_queue.event_seq::regclass), now() + i_ttl)
        on conflict (queue_id, event_key) do update
           set ev_id = excluded.ev_id, expires_at = excluded.expires_at
         where k.expires_at <= now()
        returning k.ev_id into id;
        duplicate := not found;
        exit when not duplicate;
        select k.ev_id into id from pgq.event_key k where k.queue_id = v_queue.queue_id and k.event_key = i_key;
        if found then
            return;
        end if;
        -- it has expired since this transaction began, and maintenance was faster
    end loop;
    if v_queue.tx_limit is not null then
        perform pgq.insert_event_raw(i_queue_name, id, null, null, null,
                                     i_type, i_data, i_extra1, i_extra2, i_extra3, i_extra4);
        return;
    end if;
    execute 'insert into ' || v_queue.event_table
            || ' (ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)'
               ' values ($1, pg_catalog.now(), $2, $3, $4, $5, $6, $7)'
    using id, i_type, i_data, i_extra1, i_extra2, i_extra3, i_extra4;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
