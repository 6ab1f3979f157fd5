create or replace function skyd.row_type(i_row anyelement)
returns oid as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.row_type(1)
    --
    --     Type of an expression, known when it is planned: immutable, and
    --     called with null. See skyd.capture_routes(0).
    --
    -- Parameters:
    --     i_row - anything
    --
    -- Returns:
    --     its type
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return pg_catalog.pg_typeof(i_row)::pg_catalog.oid;
end;
$$ language plpgsql immutable;
