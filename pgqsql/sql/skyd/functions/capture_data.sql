create or replace function skyd.capture_data(i_kind text, i_table oid, i_op text, i_options jsonb, i_new text, i_old text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_data(6)
    --
    --     SQL expression for the data of a change event: the whole row url
    --     encoded (logutriga) or as a JSON object (jsontriga), or the rest of
    --     an SQL statement (sqltriga).
    --
    -- Parameters:
    --     i_kind    - logutriga, sqltriga or jsontriga
    --     i_table   - table
    --     i_op      - INSERT, UPDATE or DELETE
    --     i_options - from skyd.capture_options
    --     i_new     - SQL for the row; of a delete the old one
    --     i_old     - SQL for the old row
    --
    -- Returns:
    --     expression of type text
    --
    -- Raises:
    --     unknown magic column
    --
    -- Calls:
    --     skyd.capture_url(3), skyd.capture_columns(2),
    --     skyd.capture_value(5), skyd.capture_changed(5),
    --     skyd.capture_concat(1), skyd.capture_update(3)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_parts text[];
    v_keys  text[];
    v_names text;
    v_url   record;
begin
    if i_kind = 'logutriga' then
        v_url := skyd.capture_url(i_table, i_options, i_new);
        return case when v_url.look is null then v_url.other
            else format('case when %1$s operator(pg_catalog.!~) %2$L then %3$s when %1$s operator(pg_catalog.!~) %4$L then %5$s else %6$s end',
                        v_url.look, v_url.usual_signs, v_url.usual, v_url.printable_signs, v_url.printable, v_url.other) end;
    end if;
    if i_kind = 'jsontriga' then
        select array_agg(case row_number when 1 then '' else ''','', ' end || part order by row_number)
          into v_parts
          from (select skyd.capture_value('json', i_new, c.col_name, c.col_type, c.col_base) as part,
                       row_number() over (order by c.col_no)
                  from skyd.capture_columns(i_table, i_options) c
                 where c.is_data) p;
        return skyd.capture_concat('''{'''::text || v_parts || '''}'''::text);
    end if;

    if i_op = 'INSERT' then
        select string_agg(quote_ident(c.col_name), ',' order by c.col_no),
               array_agg(case row_number when 1 then '' else ''','', ' end
                         || skyd.capture_value('sql', i_new, c.col_name, c.col_type, c.col_base) order by c.col_no)
          into v_names, v_parts
          from (select c.*, row_number() over (order by c.col_no)
                  from skyd.capture_columns(i_table, i_options) c
                 where c.is_data) c;
        return skyd.capture_concat(quote_literal(concat('(', v_names, ') values (')) || v_parts || ''')'''::text);
    end if;

    select array_agg(case row_number when 1 then '' else ''' and '', ' end
                     || skyd.capture_value('sqlset', i_old, c.col_name, c.col_type, c.col_base) order by c.col_no)
      into v_keys
      from (select c.*, row_number() over (order by c.col_no)
              from skyd.capture_columns(i_table, i_options) c
             where c.is_key) c;
    if i_op = 'DELETE' then
        return skyd.capture_concat(v_keys);
    end if;
    select array_agg(format('case when %s then %s end',
                            skyd.capture_changed(i_new, i_old, c.col_name, c.col_type, c.col_base),
                            skyd.capture_concat(array[skyd.capture_value('sqlset', i_new, c.col_name, c.col_type, c.col_base), ''',''']))
                     order by c.col_no)
      into v_parts
      from skyd.capture_columns(i_table, i_options) c
     where c.is_data;
    -- an update that changes nothing sets the first key column to itself
    return format('skyd.capture_update(%s, %s, %s)', skyd.capture_concat(v_parts), skyd.capture_concat(v_keys[1:1]),
                  skyd.capture_concat(v_keys));
end;
$$ language plpgsql stable set search_path = pg_catalog, skyd, pg_temp;
