create or replace function pgq._subscription(
    in i_queue_id integer, in i_consumer_id integer,
    out row_id tid, out sub_id integer, out sub_last_tick bigint, out sub_batch bigint, out sub_next_tick bigint)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._subscription(2)
    --
    --     Reads a subscription. The index is walked backwards, because entries
    --     of one key are in the order of their places in the table: the newest
    --     version of the row comes first, before all dead ones that an open
    --     snapshot keeps from being removed. Equality would make the order
    --     redundant for the planner, so the key is given as a range, and other
    --     plans, which look cheaper while the table is small, are ruled out.
    --
    -- Parameters:
    --     i_queue_id    - queue
    --     i_consumer_id - consumer
    --
    -- Returns:
    --     place of the row, for use in this statement's transaction, and what
    --     is in it; all null when there is none
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
    --     none
    -- ----------------------------------------------------------------
begin
    select s.ctid, s.sub_id, s.sub_last_tick, s.sub_batch, s.sub_next_tick
      into row_id, sub_id, sub_last_tick, sub_batch, sub_next_tick
      from pgq.subscription s
     where (s.sub_queue, s.sub_consumer) >= (i_queue_id, i_consumer_id)
       and (s.sub_queue, s.sub_consumer) <= (i_queue_id, i_consumer_id)
     order by s.sub_queue desc, s.sub_consumer desc
     limit 1;
end;
$$ language plpgsql volatile
set search_path = pg_catalog, pgq, pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off;
