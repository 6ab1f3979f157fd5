create or replace function skyd.capture_value(i_form text, i_row text, i_name text, i_type oid, i_base oid)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_value(5)
    --
    --     SQL for one value of an event. All of it is static and inline: what
    --     is known of the column's type decides how much must be looked at for
    --     each row. Values are rendered by the output function of their type
    --     (concat does it), not by a cast: char(n) keeps its blanks, boolean
    --     is t or f. All names are qualified, because it runs under the search
    --     path of whoever writes.
    --
    -- Parameters:
    --     i_form - text: the value as text, null for null. url, json, sql,
    --              sqlset: arguments for concat() that make an assignment as
    --              logutriga and jsontriga write it, a value for VALUES, an
    --              assignment for SET
    --     i_row  - SQL for the row, for instance new or ($1)
    --     i_name - column
    --     i_type - its type
    --     i_base - the type below domains
    --
    -- Returns:
    --     expression, or arguments with commas between
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     skyd.capture_column(2), skyd.urlencode(1)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    -- output of letters, digits, dot and minus: needs no encoding anywhere
    c_plain  constant oid[] := array['int2', 'int4', 'int8', 'oid', 'numeric', 'bool', 'uuid']::regtype[]::oid[];
    -- output without quotes and backslashes
    c_tidy   constant oid[] := c_plain || array['float4', 'float8', 'date', 'time', 'timetz', 'timestamp', 'timestamptz']::regtype[]::oid[];
    v_col    text := skyd.capture_column(i_row, i_name);
    v_text   text;
    v_open   text;
    v_null   text;
    v_quote  text := '''''';
begin
    v_text := case when i_base in ('text'::regtype, 'varchar'::regtype) then v_col || '::pg_catalog.text'
                   else format('case when pg_catalog.num_nulls(%s) operator(pg_catalog.=) 0 then pg_catalog.concat(%1$s) end', v_col) end;
    case i_form
    when 'text' then
        return '(' || v_text || ') collate pg_catalog."C"';
    when 'url' then
        v_open := quote_literal(skyd.urlencode(i_name));
        v_text := format('case when pg_catalog.num_nulls(%s) operator(pg_catalog.=) 0 then %s else %s end',
                         v_col, quote_literal(skyd.urlencode(i_name) || '='), v_open) || ', ' ||
            case when i_base = any (c_plain) then v_col
                 when i_base in ('float4'::regtype, 'float8'::regtype) then
                    format('pg_catalog.replace(pg_catalog.concat(%s), ''+'', ''%%2b'')', v_col)
                 when i_base in ('date'::regtype, 'time'::regtype, 'timetz'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype) then
                    format('case when (%s) collate pg_catalog."C" operator(pg_catalog.~) ''[^0-9: .+-]'' then skyd.urlencode(%1$s)'
                           ' else pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(%1$s, ''+'', ''%%2b''), '' '', ''+''), '':'', ''%%3a'') end', v_text)
                 else
                    format('case when (%s) collate pg_catalog."C" operator(pg_catalog.~) ''[^A-Za-z0-9_. -]'' then skyd.urlencode(%1$s)'
                           ' else pg_catalog.replace(%1$s, '' '', ''+'') end', v_text)
            end;
        return v_text;
    when 'json' then
        v_open := to_json(i_name)::text || ':';
        v_quote := '"';
        v_null := 'null';
        if i_type in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) then
            return format('case when %s is null then %L else %L end, %1$s', v_col, v_open || v_null, v_open);
        elsif i_type = 'bool'::regtype then
            return format('case when %1$s then %2$L when not %1$s then %3$L else %4$L end',
                          v_col, v_open || 'true', v_open || 'false', v_open || v_null);
        elsif i_type in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype) then
            return format('%L, coalesce(pg_catalog.to_json(%s)::pg_catalog.text, %L)', v_open, v_col, v_null);
        elsif not i_base = any (c_tidy) then
            return format('%L, coalesce(pg_catalog.to_json(%s)::pg_catalog.text, %L)', v_open, v_text, v_null);
        end if;
    else
        v_open := case i_form when 'sqlset' then quote_ident(i_name) || '=' else '' end;
        v_quote := '''';
        v_null := case i_form when 'sqlset' then 'NULL' else 'null' end;
        if not i_base = any (c_tidy) then
            return format('%L, coalesce(pg_catalog.quote_literal(%s), %L)', v_open, v_text, v_null);
        end if;
    end case;
    return format('case when %1$s is null then %2$L else %3$L end, %1$s, case when %1$s is not null then %4$L end',
                  v_col, v_open || v_null, v_open || v_quote, v_quote);
end;
$$ language plpgsql stable set search_path = pg_catalog, skyd, pg_temp;
