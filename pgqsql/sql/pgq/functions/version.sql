create or replace function pgq.version()
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.version(0)
    --
    --     Version of the PgQ contract that this schema keeps. Tickers read
    --     the first character only and serve the database when it is 3 to 9.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     text that starts with the contract's version, never null
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
    return '3.5-skyd';
end;
$$ language plpgsql immutable set search_path = pg_catalog, pgq, pg_temp;
