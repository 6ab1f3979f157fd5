create or replace function pgq.batch_event_tables(x_batch_id bigint)
returns setof text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.batch_event_tables(1)
    --
    --     Data tables that may hold events of a batch.
    --
    -- Parameters:
    --     x_batch_id - open batch
    --
    -- Returns:
    --     table names, one or two
    --
    -- Raises:
    --     batch not open
    --
    -- Calls:
    --     pgq._batch_range(1)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query select unnest(r.tables) from pgq._batch_range(x_batch_id) r;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
