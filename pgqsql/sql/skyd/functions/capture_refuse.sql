create or replace function skyd.capture_refuse(i_table oid, i_op text, i_when text, i_options jsonb)
returns void as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_refuse(4)
    --
    --     Refuses what the arguments of a capture trigger forbid whatever the
    --     row is.
    --
    -- Parameters:
    --     i_table   - table
    --     i_op      - TG_OP
    --     i_when    - TG_WHEN
    --     i_options - from skyd.capture_options
    --
    -- Returns:
    --     nothing
    --
    -- Raises:
    --     deny; SKIP in a trigger that comes too late to skip
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
    if i_options ? 'deny' then
        raise exception 'table % is closed for changes: % denied by trigger', i_table::regclass, lower(i_op)
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if i_options ? 'skip' and i_when = 'AFTER' then
        raise exception 'trigger on table %: SKIP works in a BEFORE trigger only', i_table::regclass
            using errcode = 'invalid_parameter_value';
    end if;
end;
$$ language plpgsql stable set search_path = pg_catalog, skyd, pg_temp;
