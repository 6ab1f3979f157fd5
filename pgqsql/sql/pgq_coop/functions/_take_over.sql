create or replace function pgq_coop._take_over(i_main pgq.subscription, i_member pgq.subscription, i_dead_interval interval)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop._take_over(3)
    --
    --     Unregisters one dead member of a group and gives its open batch, if
    --     it has one, to another member under a new id. Members with a batch
    --     come first, the longest silent ones before others.
    --
    -- Parameters:
    --     i_main          - subscription of the main consumer, locked by the
    --                       caller
    --     i_member        - subscription of the member that asks
    --     i_dead_interval - silence that counts as death
    --
    -- Returns:
    --     true when a batch was taken over
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.unregister_consumer(2)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer
    --     update - pgq.subscription
    --
    -- Locks:
    --     the dead member's subscription row; waits for its finish_batch
    -- ----------------------------------------------------------------
declare
    v_dead pgq.subscription%rowtype;
begin
    select s.* into v_dead
      from pgq.subscription s
     where s.sub_queue = i_main.sub_queue
       and s.sub_id = i_main.sub_id
       and s.sub_consumer not in (i_main.sub_consumer, i_member.sub_consumer)
       and s.sub_active < now() - i_dead_interval
     order by s.sub_batch is null, s.sub_active
     limit 1
       for update;
    if not found then
        return false;
    end if;
    perform pgq.unregister_consumer(
        (select q.queue_name from pgq.queue q where q.queue_id = v_dead.sub_queue),
        (select c.co_name from pgq.consumer c where c.co_id = v_dead.sub_consumer));
    if v_dead.sub_batch is null then
        return false;
    end if;
    update pgq.subscription s
       set sub_batch = nextval('pgq.batch_id_seq'),
           sub_last_tick = v_dead.sub_last_tick,
           sub_next_tick = v_dead.sub_next_tick,
           sub_active = now()
     where s.sub_queue = i_member.sub_queue and s.sub_consumer = i_member.sub_consumer;
    return true;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_coop, pg_temp;
