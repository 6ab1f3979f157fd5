create or replace function pgq._dead_letters_back(i_dead_ids bigint[])
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._dead_letters_back(1)
    --
    --     Moves dead letters, which the caller has locked, into the retry
    --     queue.
    --
    -- Parameters:
    --     i_dead_ids - dead letters
    --
    -- Returns:
    --     number moved
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.consumer, pgq.subscription
    --     delete - pgq.dead_letter
    --     insert - pgq.retry_queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_count integer;
begin
    with chosen as (
        select d.*, s.sub_id
          from pgq.dead_letter d
          join pgq.consumer c on c.co_name = d.dead_consumer
          join pgq.subscription s on s.sub_queue = d.dead_queue and s.sub_consumer = c.co_id
         where d.dead_id = any (i_dead_ids)
    ), queued as (
        insert into pgq.retry_queue (
            ev_retry_after, ev_queue, ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data,
            ev_extra1, ev_extra2, ev_extra3, ev_extra4)
        select now(), c.dead_queue, c.ev_id, c.ev_time, c.sub_id, 0, c.ev_type, c.ev_data,
               c.ev_extra1, c.ev_extra2, c.ev_extra3, c.ev_extra4
          from chosen c
        on conflict (ev_owner, ev_id) do nothing
        returning ev_owner, ev_id
    )
    delete from pgq.dead_letter d
     using chosen c, queued r
     where d.dead_id = c.dead_id
       and r.ev_owner = c.sub_id and r.ev_id = c.ev_id;
    get diagnostics v_count = row_count;
    return v_count;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
