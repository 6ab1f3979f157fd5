create or replace function pgq_node.upgrade_schema()
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.upgrade_schema(0)
    --
    --     Kept for callers of the original. The installer upgrades this
    --     schema, so there is never anything to change.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     0, the number of changes made
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
    return 0;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_node, pg_temp;
