create or replace function pgq.register_consumer_at(x_queue_name text, x_consumer_name text, x_tick_pos bigint)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.register_consumer_at(3)
    --
    --     Subscribes a consumer to a queue at a given tick, or moves an
    --     existing subscription there. Retry events survive the move.
    --
    --     The queue row is locked against rotation: otherwise a rotation that
    --     does not see the new subscription could remove its start tick.
    --
    -- Parameters:
    --     x_queue_name    - queue name
    --     x_consumer_name - consumer name
    --     x_tick_pos      - existing tick to start after; null: the newest one
    --                       for a new consumer, no move for a registered one
    --
    -- Returns:
    --     1 - registered
    --     0 - was registered already; with a tick its position is moved and
    --         its open batch dropped
    --
    -- Raises:
    --     queue not found; consumer name null; tick not found; queue has no
    --     tick
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue, pgq.tick
    --     insert - pgq.consumer, pgq.subscription
    --     update - pgq.subscription
    --
    -- Locks:
    --     share lock on the queue row, row locks on consumer and subscription;
    --     waits for a rotation and for a registration of the same name
    -- ----------------------------------------------------------------
declare
    v_queue    integer;
    v_consumer integer;
    v_tick     bigint;
begin
    select q.queue_id into v_queue from pgq.queue q where q.queue_name = x_queue_name for share;
    if not found then
        raise exception 'queue not found: %', coalesce(x_queue_name, '<null>')
            using errcode = 'undefined_object';
    end if;
    if x_tick_pos is not null then
        perform 1 from pgq.tick t where t.tick_queue = v_queue and t.tick_id = x_tick_pos;
        if not found then
            raise exception 'tick not found: queue %, tick %', x_queue_name, x_tick_pos
                using errcode = 'undefined_object';
        end if;
    end if;

    -- a known name must not cost an id; it may be removed between our insert and our lock: try again
    loop
        select c.co_id into v_consumer
          from pgq.consumer c
         where c.co_name = x_consumer_name
           for no key update;
        exit when found;
        insert into pgq.consumer (co_name) values (x_consumer_name) on conflict (co_name) do nothing;
    end loop;

    perform 1
       from pgq.subscription s
      where s.sub_queue = v_queue and s.sub_consumer = v_consumer
        for no key update;
    if found then
        if x_tick_pos is not null then
            update pgq.subscription s
               set sub_last_tick = x_tick_pos,
                   sub_batch = null,
                   sub_next_tick = null,
                   sub_active = now()
             where s.sub_queue = v_queue and s.sub_consumer = v_consumer;
        end if;
        return 0;
    end if;

    v_tick := coalesce(x_tick_pos, (
        select t.tick_id from pgq.tick t where t.tick_queue = v_queue order by t.tick_id desc limit 1));
    if v_tick is null then
        raise exception 'queue % has no tick to start from', x_queue_name
            using errcode = 'object_not_in_prerequisite_state', hint = 'Run its ticker first.';
    end if;
    insert into pgq.subscription (sub_queue, sub_consumer, sub_last_tick)
    values (v_queue, v_consumer, v_tick);
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
