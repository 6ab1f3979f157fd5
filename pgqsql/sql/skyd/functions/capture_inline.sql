create or replace function skyd.capture_inline(i_table oid, i_trigger text, i_op text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_inline(3)
    --
    --     The encoder of a row trigger once more, for one operation, as an
    --     expression that the planner puts into the plan of the trigger
    --     itself: no call, no copy of the rows. It leaves to the encoder what
    --     is seldom: whatever is refused, unusual signs, and all of triggers
    --     with expressions in their arguments.
    --
    -- Parameters:
    --     i_table   - table
    --     i_trigger - name of the trigger
    --     i_op      - INSERT, UPDATE or DELETE
    --
    -- Returns:
    --     expression of type boolean on $1, or $1 and $2, the new and the old
    --     row; null when there is nothing better than the encoder
    --
    -- Raises:
    --     bad arguments; unknown magic column
    --
    -- Calls:
    --     skyd.capture_trigger(2), skyd.capture_options(1),
    --     skyd.capture_key(2), skyd.capture_event(6), skyd.capture_data(6),
    --     skyd.capture_url(3), skyd.capture_insert(1),
    --     skyd.capture_encoder(3); the code that it makes: the encoder
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
    v_old     text := case i_op when 'UPDATE' then '($2)' else '($1)' end;
    v_bit     integer := case i_op when 'INSERT' then 4 when 'DELETE' then 8 else 16 end;
    v_sql     record;
    v_url     record;
    v_row     text;
    v_data    text;
    v_whens   text := '';
begin
    v_options := skyd.capture_options(v_trigger.args);
    if v_options ?| array['deny', 'when', 'ev_type', 'ev_data', 'ev_extra1', 'ev_extra2', 'ev_extra3', 'ev_extra4']
       or v_trigger.fires & v_bit = 0
       or i_op <> 'INSERT' and (skyd.capture_key(i_table, v_options)).key_list = '' then
        return null;
    end if;
    v_sql := skyd.capture_event(v_trigger.kind, i_table, i_op, v_options, '($1)', v_old);
    v_row := skyd.capture_encoder(i_table, i_trigger, i_op);
    v_data := v_sql.ev_data;
    if v_sql.key_changed is not null then
        v_whens := v_whens || format(e'when %s then %s\n', v_sql.key_changed, v_row);
    end if;
    if v_sql.passed_over is not null then
        v_whens := v_whens || format(e'when %s then true\n', v_sql.passed_over);
    end if;
    if v_sql.key_null is not null then
        v_whens := v_whens || format(e'when %s then %s\n', v_sql.key_null, v_row);
    end if;
    if v_trigger.kind = 'logutriga' and v_data = skyd.capture_data(v_trigger.kind, i_table, i_op, v_options, '($1)', v_old) then
        v_url := skyd.capture_url(i_table, v_options, '($1)');
        if v_url.look is not null then
            v_data := v_url.usual;
            v_whens := v_whens || format(e'when %s operator(pg_catalog.~) %L then %s\n', v_url.look, v_url.usual_signs, v_row);
        end if;
    end if;
    return format(e'case %selse %s%s, %s, %s, %s, %s, %s) is not null end', coalesce(nullif(v_whens, ''), 'when false then false '),
                  skyd.capture_insert(v_trigger.args[0]), v_sql.ev_type, v_data, v_sql.ev_extra1, v_sql.ev_extra2,
                  v_sql.ev_extra3, v_sql.ev_extra4);
end;
$$ language plpgsql volatile set search_path = pg_catalog, skyd, pg_temp;
