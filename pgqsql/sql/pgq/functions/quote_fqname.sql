create or replace function pgq.quote_fqname(i_name text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.quote_fqname(1)
    --
    --     Quotes a table name for use in SQL. The text is split at the first
    --     dot; a name without a dot is taken to be in schema public.
    --
    -- Parameters:
    --     i_name - table name, schema.table or table, not quoted
    --
    -- Returns:
    --     both parts quoted where needed, with a dot between; null for null
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
declare
    v_dot integer := position('.' in i_name);
begin
    if v_dot = 0 then
        return 'public.' || quote_ident(i_name);
    end if;
    return quote_ident(substr(i_name, 1, v_dot - 1)) || '.' || quote_ident(substr(i_name, v_dot + 1));
end;
$$ language plpgsql immutable strict set search_path = pg_catalog, pgq, pg_temp;
