create or replace function skyd.capture_column(i_row text, i_name text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_column(2)
    --
    --     SQL for a column of a row. The name is quoted in any case: what is a
    --     keyword of PL/pgSQL only, quote_ident() leaves as it is.
    --
    -- Parameters:
    --     i_row  - SQL for the row
    --     i_name - column
    --
    -- Returns:
    --     expression
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
    return i_row || '."' || replace(i_name, '"', '""') || '"';
end;
$$ language plpgsql immutable set search_path = pg_catalog, skyd, pg_temp;
