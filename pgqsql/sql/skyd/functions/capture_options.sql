create or replace function skyd.capture_options(i_args text[])
returns jsonb as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_options(1)
    --
    --     Reads the arguments of a change capture trigger. Names are exact;
    --     anything unknown is refused rather than ignored. As in the original,
    --     of several lists of columns the last one holds, of several
    --     expressions for one field the first.
    --
    -- Parameters:
    --     i_args - TG_ARGV, starting at index 0 with the queue name
    --
    -- Returns:
    --     object with the keys given: skip, backup, deny (true), ignore and
    --     pkey (lists of columns as they were written), when and ev_type to
    --     ev_extra4 (SQL expressions)
    --
    -- Raises:
    --     queue name missing; unknown argument
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
    v_options jsonb := '{}';
    v_name    text;
    v_value   text;
begin
    if i_args[0] is null then
        raise exception 'trigger argument missing: queue name' using errcode = 'invalid_parameter_value';
    end if;
    for i in 1 .. coalesce(array_upper(i_args, 1), 0) loop
        if i_args[i] in ('SKIP', 'backup', 'deny') then
            v_options := v_options || jsonb_build_object(lower(i_args[i]), true);
            continue;
        end if;
        v_name := split_part(i_args[i], '=', 1);
        v_value := substr(i_args[i], length(v_name) + 2);
        if position('=' in i_args[i]) = 0 then
            v_name := null;
        end if;
        case
            when v_name in ('ignore', 'pkey') then
                v_options := v_options || jsonb_build_object(v_name, v_value);
            when v_name in ('when', 'ev_type', 'ev_data', 'ev_extra1', 'ev_extra2', 'ev_extra3', 'ev_extra4') then
                v_options := jsonb_build_object(v_name, v_value) || v_options;
            else
                raise exception 'unknown trigger argument: %', i_args[i]
                    using errcode = 'invalid_parameter_value',
                          hint = 'Known: SKIP, backup, deny, ignore=, pkey=, when=, ev_type=, ev_data=, ev_extra1= to ev_extra4=.';
        end case;
    end loop;
    return v_options;
end;
$$ language plpgsql immutable set search_path = pg_catalog, skyd, pg_temp;
