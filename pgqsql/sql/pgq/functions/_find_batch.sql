create or replace function pgq._find_batch(
    in i_batch_id bigint,
    out row_id tid, out sub_id integer, out sub_queue integer, out sub_consumer integer,
    out sub_last_tick bigint, out sub_next_tick bigint)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._find_batch(1)
    --
    --     Finds the subscription that has a batch open. There is no index on
    --     sub_batch: with one every change of a position would be a new entry
    --     in each index, which nobody can remove while an old snapshot is
    --     open. The newest versions of rows are at the end of the table, so
    --     the search begins there and takes in more of it until all is read.
    --     Every step reaches to the end: a row that moves meanwhile is met by
    --     the snapshot of one step or the next.
    --
    -- Parameters:
    --     i_batch_id - batch
    --
    -- Returns:
    --     place of the row, for use in this statement's transaction, and what
    --     is in it; all null when the batch is not open
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
declare
    v_pages bigint := pg_relation_size('pgq.subscription'::regclass) / current_setting('block_size')::bigint;
    v_width bigint := 1;
begin
    if i_batch_id is null then
        return;
    end if;
    loop
        select s.ctid, s.sub_id, s.sub_queue, s.sub_consumer, s.sub_last_tick, s.sub_next_tick
          into row_id, sub_id, sub_queue, sub_consumer, sub_last_tick, sub_next_tick
          from pgq.subscription s
         where s.ctid >= ('(' || greatest(v_pages - v_width, 0) || ',0)')::tid
           and s.sub_batch = i_batch_id;
        exit when found or v_width >= v_pages;
        v_width := v_width * 8;
    end loop;
end;
$$ language plpgsql volatile
set search_path = pg_catalog, pgq, pg_temp set enable_seqscan = off set enable_indexscan = off set enable_bitmapscan = off;
