create or replace function skyd.capture_concat(i_parts text[])
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_concat(1)
    --
    --     SQL that concatenates any number of parts: a function call takes at
    --     most a hundred arguments.
    --
    -- Parameters:
    --     i_parts - SQL of up to three arguments each
    --
    -- Returns:
    --     expression of type text; parts that are null count as empty
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     skyd.capture_concat(1)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    c_most  constant integer := 30;
    v_calls text[];
begin
    if coalesce(cardinality(i_parts), 0) <= c_most then
        return 'pg_catalog.concat(' || coalesce(nullif(array_to_string(i_parts, ', '), ''), '''''') || ')';
    end if;
    for i in 0 .. (cardinality(i_parts) - 1) / c_most loop
        v_calls := v_calls || skyd.capture_concat(i_parts[i * c_most + 1 : (i + 1) * c_most]);
    end loop;
    return skyd.capture_concat(v_calls);
end;
$$ language plpgsql immutable set search_path = pg_catalog, skyd, pg_temp;
