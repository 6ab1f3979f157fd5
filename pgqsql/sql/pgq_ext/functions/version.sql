create or replace function pgq_ext.version()
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.version(0)
    --
    --     Version of the pgq_ext contract that this schema keeps.
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
    return '3.1-skyd';
end;
$$ language plpgsql immutable set search_path = pg_catalog, pgq_ext, pg_temp;
