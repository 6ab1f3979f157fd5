create or replace function pgq_coop._find_batch(i_batch_id bigint)
returns tid as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop._find_batch(1)
    --
    --     Finds the subscription that has a batch open, on skyd's PgQ, which
    --     has no index on sub_batch, as well as on the original. The newest
    --     versions of rows are at the end of the table, so the search begins
    --     there and takes in more of it until all is read.
    --
    -- Parameters:
    --     i_batch_id - batch
    --
    -- Returns:
    --     place of the row, which another session may change; null when the
    --     batch is not open
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
    v_row   tid;
begin
    loop
        select s.ctid into v_row
          from pgq.subscription s
         where s.ctid >= ('(' || greatest(v_pages - v_width, 0) || ',0)')::tid
           and s.sub_batch = i_batch_id;
        exit when found or v_width >= v_pages;
        v_width := v_width * 8;
    end loop;
    return v_row;
end;
$$ language plpgsql volatile
set search_path = pg_catalog, pgq_coop, pg_temp set enable_seqscan = off set enable_indexscan = off set enable_bitmapscan = off;
