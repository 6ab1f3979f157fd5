create or replace function pgq_node.version()
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.version(0)
    --
    --     Version of the pgq_node contract that this schema keeps.
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
    return '3.5-skyd';
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_node, pg_temp;
