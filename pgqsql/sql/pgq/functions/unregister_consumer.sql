create or replace function pgq.unregister_consumer(x_queue_name text, x_consumer_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.unregister_consumer(2)
    --
    --     Ends a subscription. Its open batch vanishes, its retry events are
    --     deleted. The main consumer of a cooperative group takes all members
    --     with it; a member leaves alone and the group keeps its retry events.
    --
    -- Parameters:
    --     x_queue_name    - queue name
    --     x_consumer_name - consumer name
    --
    -- Returns:
    --     number of subscriptions removed, 0 when there was none
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq._is_group_member(2)
    --
    -- Tables:
    --     read   - pgq.queue
    --     delete - pgq.subscription, pgq.retry_queue, pgq.consumer
    --
    -- Locks:
    --     row locks on the consumers and subscriptions removed
    -- ----------------------------------------------------------------
declare
    v_queue     integer;
    v_sub       integer;
    v_main      integer;
    v_consumers integer[];
begin
    select s.sub_queue, s.sub_id, s.sub_consumer
      into v_queue, v_sub, v_main
      from pgq.queue q
      join pgq.subscription s on s.sub_queue = q.queue_id
      join pgq.consumer c on c.co_id = s.sub_consumer
     where q.queue_name = x_queue_name
       and c.co_name = x_consumer_name
       for update of c, s;
    if not found then
        return 0;
    end if;

    if pgq._is_group_member(v_queue, v_main) then
        v_consumers := array[v_main];
    else
        delete from pgq.retry_queue r where r.ev_queue = v_queue and r.ev_owner = v_sub;
        select array_agg(s.sub_consumer) into v_consumers
          from pgq.subscription s
         where s.sub_queue = v_queue and s.sub_id = v_sub;
        perform 1 from pgq.consumer c where c.co_id = any (v_consumers) order by c.co_id for update;
    end if;

    delete from pgq.subscription s where s.sub_queue = v_queue and s.sub_consumer = any (v_consumers);
    -- names are locked by now, so no other queue can start to use them
    delete from pgq.consumer c
     where c.co_id = any (v_consumers)
       and not exists (select 1 from pgq.subscription s where s.sub_consumer = c.co_id);
    return cardinality(v_consumers);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
