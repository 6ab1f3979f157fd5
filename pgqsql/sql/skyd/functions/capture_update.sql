create or replace function skyd.capture_update(i_set text, i_key text, i_where text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_update(3)
    --
    --     Data of an update as sqltriga writes it. One that changes nothing
    --     sets the first key column to itself.
    --
    -- Parameters:
    --     i_set   - assignments of what changed, a comma after each
    --     i_key   - assignment of the first key column
    --     i_where - condition on the key
    --
    -- Returns:
    --     the rest of an UPDATE after SET
    --
    -- Raises:
    --     nothing changed, and there is no key column to set
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
    if i_set <> '' then
        return concat(left(i_set, -1), ' where ', i_where);
    end if;
    if i_key = '' then
        raise exception 'an update that changes nothing has no key column to be written with'
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    return concat(i_key, ' where ', i_where);
end;
$$ language plpgsql immutable set search_path = pg_catalog, skyd, pg_temp;
