create or replace function skyd.capture_code(i_table oid, i_trigger text, i_form text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_code(3)
    --
    --     Body of the encoder of a capture trigger: PL/pgSQL that names every
    --     column and has nothing left to find out for a row.
    --
    -- Parameters:
    --     i_table   - table
    --     i_trigger - name of the trigger
    --     i_form    - row: function for a row trigger, false when it does not
    --                 fit the table; single: procedure for a statement that
    --                 changed one row; statement: function that tells the
    --                 query for many rows
    --
    -- Returns:
    --     body; null for a trigger that is always refused, or which needs the
    --     row's type where a statement has not got it
    --
    -- Raises:
    --     bad arguments; unknown magic column
    --
    -- Calls:
    --     skyd.capture_trigger(2), skyd.capture_options(1),
    --     skyd.capture_key(2), skyd.capture_event(6), skyd.capture_shape(2),
    --     skyd.capture_data(6), skyd.capture_url(3), skyd.capture_insert(1),
    --     skyd.capture_statement(5);
    --     the code that it makes: skyd.capture_fresh(3), skyd.capture_fits(4),
    --     as skyd.capture_insert(1)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_trigger record := skyd.capture_trigger(i_table, i_trigger);
    v_options jsonb;
    v_shape   text := skyd.capture_shape(i_table, i_trigger);
    v_op      record;
    v_sql     record;
    v_new     text;
    v_old     text;
    v_slow    text;
    v_body    text := '';
    v_url     record;
    v_fields  text[];
    v_name    text;
    v_line    text;
    v_no      integer;
begin
    v_options := skyd.capture_options(v_trigger.args);
    if v_options ? 'deny' or v_options ? 'skip' and v_trigger.fires & 2 = 0 then
        return null;
    end if;
    if i_form = 'single' and v_options ?| array['when', 'ev_type', 'ev_data', 'ev_extra1', 'ev_extra2', 'ev_extra3', 'ev_extra4'] then
        return null;
    end if;
    if i_form = 'statement' then
        for v_op in
            select * from (values ('INSERT', 4), ('UPDATE', 16), ('DELETE', 8)) o (name, bit) where v_trigger.fires & bit > 0
        loop
            v_body := v_body || format(e'if _op operator(pg_catalog.=) %L then\nreturn case when _many then %L else %L end;\nend if;\n',
                v_op.name, skyd.capture_statement(v_trigger.kind, i_table, v_op.name, v_options, true),
                skyd.capture_statement(v_trigger.kind, i_table, v_op.name, v_options, false));
        end loop;
        return format(e'-- made by skyd.capture_build, and again by it when the table changes\n'
                      'begin\nif skyd.capture_fresh(''%s''::pg_catalog.regclass, %L, %L) then\n%send if;\nreturn null;\nend;\n',
                      i_table, i_trigger, v_shape, v_body);
    end if;
    for v_op in
        select * from (values ('INSERT', 4), ('UPDATE', 16), ('DELETE', 8)) o (name, bit) where v_trigger.fires & bit > 0
    loop
        v_new := '_' || case v_op.name when 'DELETE' then 'old' else 'new' end;
        v_old := '_' || case v_op.name when 'INSERT' then 'new' else 'old' end;
        v_slow := case i_form when 'single' then e'_done := false;\nreturn;' else 'return false;' end;
        v_body := v_body || format(e'%s _op operator(pg_catalog.=) %L then\n', case v_body when '' then 'if' else 'elsif' end, v_op.name);
        if v_op.name <> 'INSERT' and (skyd.capture_key(i_table, v_options)).key_list = '' then
            -- which refuses it
            v_body := v_body || v_slow || e'\n';
            continue;
        end if;
        v_body := v_body || case i_form
            when 'single' then format(e'if _fresh is not true then\n%s\nend if;\n', v_slow)
            else format(e'if _fresh is not true then\n'
                        'if _fresh is false or not skyd.capture_fits(%s, %L, %L, %s) then\n%s\nend if;\nend if;\n',
                        i_table, i_trigger, v_shape, v_new, v_slow) end;
        v_sql := skyd.capture_event(v_trigger.kind, i_table, v_op.name, v_options, v_new, v_old);
        if v_sql.key_changed is not null then
            v_body := v_body || format(e'if %s then\nraise exception %L using errcode = ''object_not_in_prerequisite_state'';\nend if;\n',
                                       v_sql.key_changed, replace(format('update of the key of table %s cannot be logged', i_table::regclass), '%', '%%'));
        end if;
        if v_sql.passed_over is not null then
            v_body := v_body || format(e'if %s then\nreturn%s;\nend if;\n', v_sql.passed_over,
                                      case i_form when 'row' then ' true' else '' end);
        end if;
        if v_sql.key_null is not null then
            v_body := v_body || format(e'if %s then\nraise exception %L using errcode = ''null_value_not_allowed'';\nend if;\n',
                                       v_sql.key_null, replace(format('null in the key of table %s cannot be logged', i_table::regclass), '%', '%%'));
        end if;
        -- all fields first, then the decision: an expression that fails does so whether or not the event is wanted
        v_fields := array[v_sql.ev_type, v_sql.ev_data, v_sql.ev_extra1, v_sql.ev_extra2, v_sql.ev_extra3, v_sql.ev_extra4];
        for v_no in 1 .. 6 loop
            -- constants stay where they are
            continue when v_fields[v_no] = 'null' or v_fields[v_no] ~ '^''([^'']|'''')*''$';
            v_name := (array['_type', '_data', '_extra1', '_extra2', '_extra3', '_extra4'])[v_no];
            v_line := format(e'%s := %s;\n', v_name, v_fields[v_no]);
            if v_no = 2 and v_trigger.kind = 'logutriga'
               and v_sql.ev_data = skyd.capture_data(v_trigger.kind, i_table, v_op.name, v_options, v_new, v_old) then
                v_url := skyd.capture_url(i_table, v_options, v_new);
                if v_url.look is not null then
                    -- the same in pieces: a transaction sets up only what it needs
                    v_line := format(e'_look := %s;\nif _look operator(pg_catalog.!~) %L then\n_data := %s;\n'
                                     'elsif _look operator(pg_catalog.!~) %L then\n_data := %s;\nelse\n_data := %s;\nend if;\n',
                                     v_url.look, v_url.usual_signs, v_url.usual, v_url.printable_signs, v_url.printable, v_url.other);
                end if;
            end if;
            v_body := v_body || v_line;
            v_fields[v_no] := v_name;
        end loop;
        if v_sql.wanted is not null then
            v_body := v_body || format(
                e'_wanted := %s;\nif _wanted is null then\nraise exception %L using errcode = ''null_value_not_allowed'';\nend if;\n',
                v_sql.wanted, replace(format('trigger on table %s: when= gives null', i_table::regclass), '%', '%%'));
        end if;
        v_body := v_body || case when v_sql.wanted is null then '' else e'if _wanted then\n' end
            || format(e'_id := %s%s;\n', skyd.capture_insert(v_trigger.args[0]), array_to_string(v_fields, ', ') || ')')
            || case when v_sql.wanted is null then '' else e'end if;\n' end;
    end loop;
    if v_body <> '' then
        v_body := v_body || e'end if;\n';
    end if;
    return format(
        e'-- made by skyd.capture_build, and again by it when the table changes\n'
        '#variable_conflict use_column\n'
        'declare\n_fresh boolean := skyd.capture_fresh(''%1$s''::pg_catalog.regclass, %2$s, %3$L);\n'
        '_look text;\n_type text;\n_data text;\n_extra1 text;\n_extra2 text;\n_extra3 text;\n_extra4 text;\n_wanted boolean;\n_id bigint;\n'
        'begin\n%4$s%5$send;\n',
        i_table, quote_literal(i_trigger), v_shape, v_body, case i_form when 'row' then e'return true;\n' else '' end);
end;
$$ language plpgsql volatile set search_path = pg_catalog, skyd, pg_temp;
