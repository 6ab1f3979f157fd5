create or replace function pgq._trigger_data_sql(i_kind text, i_table oid, i_op text, i_options jsonb, i_row text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._trigger_data_sql(5)
    --
    --     SQL expression for the data of a change event: the whole row url
    --     encoded (logutriga) or as a JSON object (jsontriga), or the rest of
    --     an SQL statement (sqltriga).
    --
    -- Parameters:
    --     i_kind    - logutriga, sqltriga or jsontriga
    --     i_table   - table
    --     i_op      - INSERT, UPDATE or DELETE
    --     i_options - from pgq._trigger_options
    --     i_row     - $1 or $2, the row to render
    --
    -- Returns:
    --     expression of type text
    --
    -- Raises:
    --     unknown magic column
    --
    -- Calls:
    --     pgq._trigger_columns(2), pgq._urlencode(1)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_sql   text;
    v_key   text;
    v_first text;
begin
    case i_kind
    when 'logutriga' then
        select string_agg(format('coalesce(%L || pgq._urlencode(%s), %L)',
                                 pgq._urlencode(c.col_name) || '=',
                                 case i_row when '$1' then c.new_text else c.old_text end,
                                 pgq._urlencode(c.col_name)),
                          ' || ''&'' || ' order by c.col_no)
          into v_sql
          from pgq._trigger_columns(i_table, i_options) c
         where c.is_data;
        return coalesce(v_sql, '''''');
    when 'jsontriga' then
        select string_agg(
                   quote_literal(to_json(c.col_name)::text || ':') || ' || coalesce(' ||
                   case when c.col_type in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
                        then case i_row when '$1' then c.new_text else c.old_text end
                        when c.col_type in ('bool'::regtype, 'date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
                        then format('pg_catalog.to_json((%s).%I)::text', i_row, c.col_name)
                        else 'pg_catalog.to_json(' || case i_row when '$1' then c.new_text else c.old_text end || ')::text'
                   end || ', ''null'')',
                   ' || '','' || ' order by c.col_no)
          into v_sql
          from pgq._trigger_columns(i_table, i_options) c
         where c.is_data;
        return coalesce('''{'' || ' || v_sql || ' || ''}''', '''{}''');
    else
        select string_agg(format('%L || pg_catalog.quote_literal(%s)', quote_ident(c.col_name) || '=', c.old_text),
                          ' || '' and '' || ' order by c.col_no) filter (where c.key_no is not null),
               (array_agg(format('%L || pg_catalog.quote_literal(%s)', quote_ident(c.col_name) || '=', c.new_text)
                          order by c.col_no) filter (where c.key_no is not null))[1],
               case i_op
               when 'INSERT' then
                   quote_literal('(' || string_agg(quote_ident(c.col_name), ',' order by c.col_no) filter (where c.is_data)
                                 || ') values (') || ' || ' ||
                   string_agg(format('coalesce(pg_catalog.quote_literal(%s), ''null'')', c.new_text), ' || '','' || ' order by c.col_no)
                       filter (where c.is_data) || ' || '')'''
               when 'UPDATE' then
                   'pg_catalog.concat_ws('','', ' ||
                   string_agg(format('case when (%s) is distinct from (%s) then %L || coalesce(pg_catalog.quote_literal(%1$s), ''NULL'') end',
                                     c.new_text, c.old_text, quote_ident(c.col_name) || '='), ', ' order by c.col_no)
                       filter (where c.is_data) || ')'
               end
          into v_key, v_first, v_sql
          from pgq._trigger_columns(i_table, i_options) c;
        return case i_op
            when 'INSERT' then coalesce(v_sql, '''() values ()''')
            when 'UPDATE' then format('coalesce(nullif(%s, ''''), %s) || '' where '' || %s', coalesce(v_sql, ''''''), v_first, v_key)
            else v_key end;
    end case;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
