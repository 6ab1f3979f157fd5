create or replace function pgq._inserter_tree(i_key text, i_values integer[], i_leaves text[])
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._inserter_tree(3)
    --
    --     Writes nested comparisons that reach one of many pieces of code by
    --     the value of an expression.
    --
    -- Parameters:
    --     i_key    - expression
    --     i_values - values of it, ascending
    --     i_leaves - the code for each
    --
    -- Returns:
    --     PL/pgSQL statements; nothing is done for other values and for null
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
    v_count integer := cardinality(i_values);
    v_half  integer := v_count / 2;
begin
    if v_count = 0 then
        return '';
    end if;
    if v_count = 1 then
        return format(E'if %s operator(pg_catalog.=) %s then\n%send if;\n', i_key, i_values[1], i_leaves[1]);
    end if;
    return format(E'if %s operator(pg_catalog.<) %s then\n', i_key, i_values[v_half + 1])
           || pgq._inserter_tree(i_key, i_values[1 : v_half], i_leaves[1 : v_half])
           || E'else\n'
           || pgq._inserter_tree(i_key, i_values[v_half + 1 : v_count], i_leaves[v_half + 1 : v_count])
           || E'end if;\n';
end;
$$ language plpgsql immutable set search_path = pg_catalog, pgq, pg_temp;
