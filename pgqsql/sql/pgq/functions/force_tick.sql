create or replace function pgq.force_tick(i_queue_name text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.force_tick(1)
    --
    --     Advances the event counter of a queue so far that the next ticker
    --     call makes a tick. It makes none itself; callers repeat it until the
    --     answer grows. The ids are drawn one by one, because setval beside
    --     running producers could give an id out twice; only a jump that no
    --     producer can overtake is made with setval.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     id of the newest existing tick; null when the queue is missing. For
    --     a paused or externally ticked queue nothing is advanced
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue, pgq.tick
    --     update - the queue's event sequence
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_queue pgq.queue%rowtype;
    v_jump  bigint;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    if not found then
        return null;
    end if;
    if not v_queue.queue_external_ticker and not v_queue.queue_ticker_paused then
        v_jump := 2 * v_queue.queue_ticker_max_count::bigint + 1000;
        if v_jump > 1000000 then
            perform setval(v_queue.queue_event_seq::regclass,
                           nextval(v_queue.queue_event_seq::regclass) + v_jump);
        else
            perform nextval(v_queue.queue_event_seq::regclass) from generate_series(0, v_jump);
        end if;
    end if;
    return (select t.tick_id
              from pgq.tick t
             where t.tick_queue = v_queue.queue_id
             order by t.tick_id desc
             limit 1);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
