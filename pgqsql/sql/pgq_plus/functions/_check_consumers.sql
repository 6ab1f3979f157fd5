create or replace function pgq._check_consumers(
    out area text, out object text, out severity text, out problem text, out remedy text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._check_consumers(0)
    --
    --     The part of pgq.check() about consumers and cooperative groups: their
    --     ticks are there, members have their group, nobody took the group's batch,
    --     names mean one thing.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     rows as pgq.check()
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none; its remedies name pgq.register_consumer_at(3),
    --     pgq.unregister_consumer(2), pgq.finish_batch(1), pgq.seq_setval(2)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer, pgq.subscription, pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query
        select 'consumer', q.queue_name || ': ' || c.co_name, 'error', 'its position is gone: tick ' || k.tick,
               format('select pgq.register_consumer_at(%L, %L, (select min(t.tick_id) from pgq.tick t where t.tick_queue = %s)),'
                      ' events before are lost to it', q.queue_name, c.co_name, q.queue_id)
          from pgq.subscription s
          join pgq.queue q on q.queue_id = s.sub_queue
          join pgq.consumer c on c.co_id = s.sub_consumer
         cross join lateral unnest(array[s.sub_last_tick, s.sub_next_tick]) k (tick)
         where k.tick is not null
           and not exists (select 1 from pgq.tick t where t.tick_queue = s.sub_queue and t.tick_id = k.tick);

    -- no unique index keeps batches apart, but the sequence they all come from
    return query
        select 'consumer', q.queue_name || ': ' || c.co_name, 'error',
               format('has batch %s open, and so has another consumer: who finishes it closes either', s.sub_batch),
               format('select pgq.register_consumer_at(%L, %L, %s), the batch comes again', q.queue_name, c.co_name, s.sub_last_tick)
          from pgq.subscription s
          join pgq.queue q on q.queue_id = s.sub_queue
          join pgq.consumer c on c.co_id = s.sub_consumer
         where exists (select 1 from pgq.subscription o
                        where o.sub_batch = s.sub_batch and (o.sub_queue, o.sub_consumer) <> (s.sub_queue, s.sub_consumer))
        union all
        select 'consumer', 'pgq.batch_id_seq', 'error',
               format('stands at %s while batch %s is open: its number will be given out again', b.stands, b.open),
               format('select pgq.seq_setval(%L, %s)', 'pgq.batch_id_seq', b.open)
          from (select max(s.sub_batch) as open,
                       case when has_sequence_privilege('pgq.batch_id_seq', 'select, usage')
                            then coalesce(pg_sequence_last_value('pgq.batch_id_seq'::regclass), 0) end as stands
                  from pgq.subscription s) b
         where b.open > b.stands;

    return query
        with named as (
            select s.*, q.queue_name, c.co_name
              from pgq.subscription s
              join pgq.queue q on q.queue_id = s.sub_queue
              join pgq.consumer c on c.co_id = s.sub_consumer),
        -- by name; equal owner ids make it a group
        pair as (
            select main.queue_name, main.co_name as main_name, member.co_name as member_name,
                   main.sub_batch as main_batch, member.sub_last_tick, member.sub_batch,
                   member.sub_consumer, member.sub_queue, main.sub_consumer as main_consumer,
                   main.sub_id = member.sub_id as grouped
              from named main
              join named member on member.sub_queue = main.sub_queue
               and left(member.co_name, length(main.co_name) + 1) = main.co_name || '.')
        select 'consumer', n.queue_name || ': ' || n.co_name, 'error', 'is a member of a group whose main consumer is gone',
               format('select pgq.unregister_consumer(%L, %L)', n.queue_name, n.co_name)
          from named n
         where not exists (select 1 from pair p
                            where p.sub_queue = n.sub_queue and p.sub_consumer = n.sub_consumer and p.grouped)
           and not exists (select 1 from pair p
                            where p.sub_queue = n.sub_queue and p.main_consumer = n.sub_consumer and p.grouped)
           and (n.sub_last_tick is null
                or exists (select 1 from named o
                            where o.sub_queue = n.sub_queue and o.sub_id = n.sub_id and o.sub_consumer <> n.sub_consumer))
        union all
        select distinct 'consumer', p.queue_name || ': ' || p.main_name, 'error',
               'has members and a batch of its own, the group gets nothing',
               format('select pgq.finish_batch(%s)', p.main_batch)
          from pair p
         where p.grouped and p.main_batch is not null
        union all
        select 'consumer', p.queue_name || ': ' || p.member_name, 'warning',
               'is idle in its group but has a position, which holds rotation',
               format('select pgq.unregister_consumer(%L, %L), it comes back with its next call', p.queue_name, p.member_name)
          from pair p
         where p.grouped and p.sub_last_tick is not null and p.sub_batch is null
        union all
        select distinct 'consumer', p.queue_name || ': ' || p.member_name, 'warning',
               'has the name of a possible member of group ' || p.main_name,
               'register it under a name without the prefix ' || p.main_name || '.'
          from pair p
         where not p.grouped
           and exists (select 1 from pair o
                        where o.sub_queue = p.sub_queue and o.main_consumer = p.main_consumer and o.grouped);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pg_temp;
