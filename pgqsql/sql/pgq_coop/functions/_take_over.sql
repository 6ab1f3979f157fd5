create or replace function pgq_coop._take_over(i_main pgq.subscription, i_member pgq.subscription, i_member_row tid, i_dead_interval interval)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop._take_over(4)
    --
    --     Unregisters one dead member of a group and gives its open batch, if
    --     it has one, to another member under a new id. Members with a batch
    --     come first, the longest silent ones before others.
    --
    -- Parameters:
    --     i_main          - subscription of the main consumer, locked by the
    --                       caller
    --     i_member        - subscription of the member that asks, locked
    --     i_member_row    - its place
    --     i_dead_interval - silence that counts as death
    --
    -- Returns:
    --     true when a batch was taken over
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.unregister_consumer(2), pgq_coop._try_lock_row(2)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer
    --     update - pgq.subscription
    --
    -- Locks:
    --     the dead member's name and subscription row; members whose rows are
    --     locked are passed over
    -- ----------------------------------------------------------------
declare
    v_other record;
    v_row   tid;
    v_dead  pgq.subscription%rowtype;
begin
    for v_other in
        select m.sub_consumer
          from pgq.consumer g
          join pgq.consumer c on starts_with(c.co_name, g.co_name || '.')
         cross join lateral (
                select s.*
                  from pgq.subscription s
                 where (s.sub_queue, s.sub_consumer) >= (i_main.sub_queue, c.co_id)
                   and (s.sub_queue, s.sub_consumer) <= (i_main.sub_queue, c.co_id)
                 order by s.sub_queue desc, s.sub_consumer desc
                 limit 1) m
         where g.co_id = i_main.sub_consumer
           and m.sub_id = i_main.sub_id
           and m.sub_consumer not in (i_main.sub_consumer, i_member.sub_consumer)
           and m.sub_active < now() - i_dead_interval
         order by m.sub_batch is null, m.sub_active
    loop
        -- Who is locked is finishing, touching or leaving just now, and not
        -- dead; to wait for it could end in a circle.
        perform 1 from pgq.consumer c where c.co_id = v_other.sub_consumer for update skip locked;
        continue when not found;
        v_row := pgq_coop._try_lock_row(i_main.sub_queue, v_other.sub_consumer);
        select s.* into v_dead
          from pgq.subscription s
         where s.ctid = v_row
           and s.sub_active < now() - i_dead_interval;
        exit when found;
    end loop;
    if v_dead.sub_consumer is null then
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
     where s.ctid = i_member_row;
    return true;
end;
$$ language plpgsql volatile
set search_path = pg_catalog, pgq_coop, pg_temp set enable_seqscan = off set enable_bitmapscan = off;
