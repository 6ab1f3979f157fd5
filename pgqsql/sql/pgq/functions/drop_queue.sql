create or replace function pgq.drop_queue(x_queue_name text, x_force boolean)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.drop_queue(2)
    --
    --     Drops a queue with its events, ticks, tables and sequences.
    --
    --     Security definer: an admin does not own the tables.
    --
    -- Parameters:
    --     x_queue_name - queue name
    --     x_force      - true: unregister all consumers first, which drops
    --                    their open batches and retry events
    --
    -- Returns:
    --     1
    --
    -- Raises:
    --     queue not found; consumers exist and x_force is not true
    --
    -- Calls:
    --     pgq.unregister_consumer(2), pgq._make_inserter(2)
    --
    -- Tables:
    --     read   - pgq.subscription, pgq.consumer
    --     delete - pgq.retry_queue, pgq.tick, pgq.queue
    --
    -- Locks:
    --     the queue row, then access exclusive on its tables: waits for every
    --     transaction that uses them
    -- ----------------------------------------------------------------
declare
    v_queue    pgq.queue%rowtype;
    v_consumer text;
    v_count    integer;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = x_queue_name for update;
    if not found then
        raise exception 'queue not found: %', coalesce(x_queue_name, '<null>')
            using errcode = 'undefined_object';
    end if;
    if x_force then
        for v_consumer in
            select c.co_name
              from pgq.subscription s
              join pgq.consumer c on c.co_id = s.sub_consumer
             where s.sub_queue = v_queue.queue_id
        loop
            perform pgq.unregister_consumer(x_queue_name, v_consumer);
        end loop;
    else
        select count(*) into v_count from pgq.subscription s where s.sub_queue = v_queue.queue_id;
        if v_count > 0 then
            raise exception 'cannot drop queue %, it has % consumers', x_queue_name, v_count
                using errcode = 'dependent_objects_still_exist',
                      hint = 'Unregister them, or use pgq.drop_queue(name, true).';
        end if;
    end if;

    for i in 0 .. v_queue.queue_ntables - 1 loop
        execute format('drop table pgq.event_%s_%s', v_queue.queue_id, i);
    end loop;
    execute format('drop table pgq.event_%s', v_queue.queue_id);
    execute format('drop sequence %s, %s', v_queue.queue_event_seq::regclass, v_queue.queue_tick_seq::regclass);
    delete from pgq.retry_queue r where r.ev_queue = v_queue.queue_id;
    delete from pgq.tick t where t.tick_queue = v_queue.queue_id;
    delete from pgq.queue q where q.queue_id = v_queue.queue_id;
    -- the hint of pgq._open_slot: a new queue of this name has other tables
    perform set_config('skyd.slot_' || v_queue.queue_id, '', true);
    perform pgq._make_inserter(v_queue.queue_id, x_queue_name);
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.drop_queue(x_queue_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.drop_queue(1)
    --
    --     Drops a queue that has no consumers.
    --
    -- Parameters:
    --     x_queue_name - queue name
    --
    -- Returns:
    --     1, null for null
    --
    -- Raises:
    --     as pgq.drop_queue(2) without force
    --
    -- Calls:
    --     pgq.drop_queue(2)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.drop_queue(2)
    -- ----------------------------------------------------------------
begin
    return pgq.drop_queue(x_queue_name, false);
end;
$$ language plpgsql volatile strict set search_path = pg_catalog, pgq, pg_temp;
