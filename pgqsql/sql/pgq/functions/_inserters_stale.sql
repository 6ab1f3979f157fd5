create or replace function pgq._inserters_stale()
returns setof text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._inserters_stale(0)
    --
    --     Functions of schema skyd_gen that are missing or not as
    --     pgq._inserters(0) wants them. Events go into the right tables all
    --     the same, only slower.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     names
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq._inserters(0)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query
        select w.func_name
          from pgq._inserters() w
         where not exists (
                   select 1
                     from pg_proc p
                     join pg_namespace n on n.oid = p.pronamespace
                    where n.nspname = 'skyd_gen' and p.proname = w.func_name and p.prosrc = w.body);
end;
$$ language plpgsql stable set search_path = pg_catalog, pgq, pg_temp;
