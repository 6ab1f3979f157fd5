create or replace function pgq_coop._try_lock_row(i_queue_id integer, i_consumer_id integer)
returns tid as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop._try_lock_row(2)
    --
    --     As pgq_coop._lock_row(2), but does not wait for somebody who has the
    --     row locked.
    --
    -- Parameters:
    --     i_queue_id    - queue
    --     i_consumer_id - consumer
    --
    -- Returns:
    --     place of the row; null when there is none, or it is locked
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.subscription
    --
    -- Locks:
    --     the subscription row, until the transaction ends
    -- ----------------------------------------------------------------
declare
    v_row tid;
begin
    select s.ctid into v_row
      from pgq.subscription s
     where (s.sub_queue, s.sub_consumer) >= (i_queue_id, i_consumer_id)
       and (s.sub_queue, s.sub_consumer) <= (i_queue_id, i_consumer_id)
     order by s.sub_queue desc, s.sub_consumer desc
     limit 1
       for no key update skip locked;
    return v_row;
end;
$$ language plpgsql volatile
set search_path = pg_catalog, pgq_coop, pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off;
