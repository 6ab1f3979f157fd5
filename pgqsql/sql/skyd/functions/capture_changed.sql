create or replace function skyd.capture_changed(i_new text, i_old text, i_name text, i_type oid, i_base oid)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_changed(5)
    --
    --     SQL that tells whether a column differs between two rows. Texts are
    --     compared, not values: numeric 1.50 and 1.5 are equal for the type,
    --     but a subscriber would miss the change.
    --
    -- Parameters:
    --     i_new  - SQL for the new row
    --     i_old  - SQL for the old row
    --     i_name - column
    --     i_type - its type
    --     i_base - the type below domains
    --
    -- Returns:
    --     expression that is true when it differs, else false or null
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     skyd.capture_column(2), skyd.capture_value(5)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_new text := skyd.capture_column(i_new, i_name);
    v_old text := skyd.capture_column(i_old, i_name);
begin
    -- the types that have one text for each value
    if not i_base in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'oid'::regtype, 'bool'::regtype, 'uuid'::regtype) then
        v_new := skyd.capture_value('text', i_new, i_name, i_type, i_base);
        v_old := skyd.capture_value('text', i_old, i_name, i_type, i_base);
    end if;
    return format('(%s operator(pg_catalog.<>) %s or pg_catalog.num_nulls(%s, %s) operator(pg_catalog.=) 1)',
                  v_new, v_old, skyd.capture_column(i_new, i_name), skyd.capture_column(i_old, i_name));
end;
$$ language plpgsql stable set search_path = pg_catalog, skyd, pg_temp;
