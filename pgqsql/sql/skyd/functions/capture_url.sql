create or replace function skyd.capture_url(
    in i_table oid, in i_options jsonb, in i_row text, out look text,
    out usual text, out usual_signs text, out printable text, out printable_signs text, out other text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_url(3)
    --
    --     SQL for a whole row url encoded. What the row consists of decides
    --     how it is encoded: with usual signs only, or printable ASCII only,
    --     the row is put together and each sign is replaced in all of it at
    --     once; that costs a third of going column by column, which is left
    --     for all else. The result is the same.
    --
    --     Percent, ampersand and equals are replaced in each column, because
    --     the row itself has them. Types whose output has none of the signs
    --     that must be looked for are not looked at; a timestamptz can show
    --     any name of a time zone, unless in ISO style.
    --
    -- Parameters:
    --     i_table   - table
    --     i_options - from skyd.capture_options
    --     i_row     - SQL for the row
    --
    -- Returns:
    --     look, usual, printable, other - expressions of type text. usual is
    --     right when look does not match usual_signs, printable when it does
    --     not match printable_signs, other always. All but other are null
    --     when there is nothing to choose
    --
    -- Raises:
    --     unknown magic column
    --
    -- Calls:
    --     skyd.capture_columns(2), skyd.capture_column(2),
    --     skyd.capture_value(5), skyd.capture_concat(1), skyd.urlencode(1)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    -- output of letters, digits and -.+:/ and blanks
    c_tame  constant oid[] := array['int2', 'int4', 'int8', 'oid', 'numeric', 'bool', 'uuid', 'float4', 'float8',
                                    'date', 'time', 'timetz', 'timestamp', 'timestamptz']::regtype[]::oid[];
    -- the plus sign before the blank, which becomes one
    c_usual constant text := '+ ,:/()''';
    c_rare  constant text := e'"!?@;{}[]#$*<>^`|~\\';
    v_slow  text[];
    v_fast  text[];
    v_look  text[] := '{}';
    v_iso   boolean := false;
    v_plain boolean := true;
    v_col   text;
    v_text  text;
    v_sign  text;
    v_c     record;
begin
    usual_signs := '[^A-Za-z0-9_. %&=+,:/()''-]';
    printable_signs := '[^ -~]';
    for v_c in
        select c.col_name, c.col_type, c.col_base, case row_number() over (order by c.col_no) when 1 then '' else '&' end as sep,
               t.typtype = 'c' as is_row
          from skyd.capture_columns(i_table, i_options) c
          join pg_type t on t.oid = c.col_base
         where c.is_data
         order by c.col_no
    loop
        v_col := skyd.capture_column(i_row, v_c.col_name);
        v_slow := v_slow || (case v_c.sep when '' then '' else '''&'', ' end
                             || skyd.capture_value('url', i_row, v_c.col_name, v_c.col_type, v_c.col_base));
        v_plain := v_plain and v_c.col_name ~ '^[A-Za-z0-9_.-]+$';
        if v_c.col_base = any (c_tame) then
            v_iso := v_iso or v_c.col_base = 'timestamptz'::regtype;
            v_text := v_col;
        else
            v_text := case when v_c.col_base in ('text'::regtype, 'varchar'::regtype) then v_col || '::pg_catalog.text'
                           else format('pg_catalog.concat(%s)', v_col) end;
            v_look := v_look || v_text;
            v_text := format('(%s) collate pg_catalog."C"', v_text);
            foreach v_sign in array array['%', '&', '='] loop
                v_text := format('pg_catalog.replace(%s, %L, %L)', v_text, v_sign, skyd.urlencode(v_sign));
            end loop;
        end if;
        v_fast := v_fast || format(case when v_c.is_row then 'case when pg_catalog.num_nulls(%s) operator(pg_catalog.=) 1 then %L else %L end, %s'
                                        else 'case when %s is null then %L else %L end, %s' end,
                                   v_col, v_c.sep || v_c.col_name, v_c.sep || v_c.col_name || '=', v_text);
    end loop;
    other := skyd.capture_concat(v_slow);
    if not v_plain or v_fast is null then
        return;
    end if;
    if v_iso then
        v_look := v_look || e'case when pg_catalog.starts_with(pg_catalog.current_setting(''datestyle''), ''ISO'') then '''' else e''\\x01'' end'::text;
    end if;
    usual := format('(%s) collate pg_catalog."C"', skyd.capture_concat(v_fast));
    foreach v_sign in array string_to_array(c_usual, null) loop
        usual := format('pg_catalog.replace(%s, %L, %L)', usual, v_sign, skyd.urlencode(v_sign));
    end loop;
    if v_look = '{}' then
        other := usual;
        usual := null;
        return;
    end if;
    printable := usual;
    foreach v_sign in array string_to_array(c_rare, null) loop
        printable := format('pg_catalog.replace(%s, %L, %L)', printable, v_sign, skyd.urlencode(v_sign));
    end loop;
    look := format('(%s) collate pg_catalog."C"', skyd.capture_concat(v_look));
end;
$$ language plpgsql stable set search_path = pg_catalog, skyd, pg_temp;
