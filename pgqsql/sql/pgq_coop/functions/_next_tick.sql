create or replace function pgq_coop._next_tick(i_main pgq.subscription, i_consumer_name text, i_min_lag interval, i_min_count integer, i_min_interval interval)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop._next_tick(5)
    --
    --     Chooses the tick that ends the group's next batch, by the rules of
    --     pgq.next_batch_custom. Leans on nothing but the contract, so groups
    --     work on the C extension too.
    --
    -- Parameters:
    --     i_main          - subscription of the main consumer, locked by the
    --                       caller
    --     i_consumer_name - its name, for the message
    --     i_min_lag       - the end tick must be at least this old
    --     i_min_count     - events wanted at least, by the event counter
    --     i_min_interval  - time the batch shall span at least
    --
    -- Returns:
    --     tick id, or null when no batch fits yet
    --
    -- Raises:
    --     the position tick is gone
    --
    -- Calls:
    --     pgq.find_tick_helper(6)
    --
    -- Tables:
    --     read   - pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_prev pgq.tick%rowtype;
    v_next record;
begin
    select t.* into v_prev
      from pgq.tick t
     where t.tick_queue = i_main.sub_queue and t.tick_id = i_main.sub_last_tick;
    if not found then
        raise exception 'position of consumer % is gone: tick %',
                i_consumer_name, coalesce(i_main.sub_last_tick::text, '<null>')
            using errcode = 'object_not_in_prerequisite_state',
                  hint = 'Move it to an existing tick with pgq.register_consumer_at.';
    end if;
    if i_min_count is null and i_min_interval is null then
        select t.tick_id as next_tick_id, t.tick_time as next_tick_time into v_next
          from pgq.tick t
         where t.tick_queue = i_main.sub_queue and t.tick_id > v_prev.tick_id
         order by t.tick_id
         limit 1;
    else
        select f.next_tick_id, f.next_tick_time into v_next
          from pgq.find_tick_helper(i_main.sub_queue, v_prev.tick_id, v_prev.tick_time, v_prev.tick_event_seq,
                                    i_min_count, i_min_interval) f;
    end if;
    if now() - v_next.next_tick_time < i_min_lag then
        return null;
    end if;
    return v_next.next_tick_id;
end;
$$ language plpgsql volatile
set search_path = pg_catalog, pgq_coop, pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off;
