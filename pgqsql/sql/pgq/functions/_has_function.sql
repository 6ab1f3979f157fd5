create or replace function pgq._has_function(i_schema text, i_function text)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._has_function(2)
    --
    --     Tells whether a function of another schema is installed.
    --
    -- Parameters:
    --     i_schema   - schema name
    --     i_function - function name
    --
    -- Returns:
    --     true when a function of that name exists, whatever its arguments
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
    return exists (
        select 1
          from pg_proc p
          join pg_namespace n on n.oid = p.pronamespace
         where n.nspname = i_schema
           and p.proname = i_function);
end;
$$ language plpgsql stable set search_path = pg_catalog, pgq, pg_temp;
