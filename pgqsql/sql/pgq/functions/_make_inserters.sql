create or replace function pgq._make_inserters()
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._make_inserters(0)
    --
    --     Brings the generated code behind pgq.insert_event up to date with
    --     pgq.queue. Called by the installer, and by maintenance for what
    --     pgq._make_inserter(2) left.
    --
    --     Security definer and locks: as pgq._make_inserter(2).
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     0
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq._make_inserter(2)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq._make_inserter(2)
    -- ----------------------------------------------------------------
begin
    return pgq._make_inserter(null, null);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
