create or replace function pgq.resume_consumer(i_queue_name text, i_consumer_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.resume_consumer(2)
    --
    --     Ends the pause of a consumer. It is not paused again before it was
    --     within its limit once.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - consumer name
    --
    -- Returns:
    --     1 - resumed
    --     0 - it was not paused
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue
    --     update - pgq.consumer_state
    --     insert - pgq.consumer_action
    --
    -- Locks:
    --     the row of pgq.consumer_state
    -- ----------------------------------------------------------------
declare
    v_queue integer;
    v_tick  bigint;
begin
    update pgq.consumer_state t
       set state = 'resumed', state_since = now()
      from pgq.queue q
     where q.queue_name = i_queue_name and t.state_queue = q.queue_id
       and t.state_consumer = i_consumer_name and t.state = 'paused'
    returning q.queue_id, t.last_tick into v_queue, v_tick;
    if not found then
        return 0;
    end if;
    insert into pgq.consumer_action (action_queue, action_consumer, action, last_tick)
    values (v_queue, i_consumer_name, 'resume', v_tick);
    return 1;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
