create or replace function pgq_coop.version()
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop.version(0)
    --
    --     Version of the pgq_coop contract that this schema keeps.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     text that starts with the contract's version
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
    return '3.4-skyd';
end;
$$ language plpgsql immutable set search_path = pg_catalog, pgq_coop, pg_temp;
