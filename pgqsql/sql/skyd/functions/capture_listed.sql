create or replace function skyd.capture_listed(i_list text, i_name text)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_listed(2)
    --
    --     Tells whether a list of a trigger argument names a column. Names are
    --     separated by commas or blanks and match whole.
    --
    -- Parameters:
    --     i_list - value of ignore= or pkey=; null: names nothing
    --     i_name - name of a column
    --
    -- Returns:
    --     true or false
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
    return coalesce(i_list ~ (e'(^|[ \\t\\n\\v\\f\\r,])' || regexp_replace(i_name, e'([][!-/:-@\\\\^`{-~ ])', e'\\\\\\1', 'g')
                              || e'([ \\t\\n\\v\\f\\r,]|$)'), false);
end;
$$ language plpgsql immutable set search_path = pg_catalog, skyd, pg_temp;
