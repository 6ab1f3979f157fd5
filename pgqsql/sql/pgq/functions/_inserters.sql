create or replace function pgq._inserters(out func_name text, out arguments text, out result text, out body text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._inserters(0)
    --
    --     All the code that pgq.insert_event and pgq.insert_events should run
    --     in this database, see pgq._inserter_parts(2).
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     as pgq._inserter_parts(2)
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq._inserter_parts(2)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query select p.* from pgq._inserter_parts(null, null) p;
end;
$$ language plpgsql stable set search_path = pg_catalog, pgq, pg_temp;
