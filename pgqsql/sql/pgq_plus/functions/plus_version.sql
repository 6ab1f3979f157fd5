create or replace function pgq.plus_version()
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.plus_version(0)
    --
    --     Tells that skyd's additions to PgQ are here, and in which version.
    --     Clients that can do without look for this function first.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     text, never null
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
    return '1.0';
end;
$$ language plpgsql immutable set search_path = pg_catalog, pgq, pg_temp;
