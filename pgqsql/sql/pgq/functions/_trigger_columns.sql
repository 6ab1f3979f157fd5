create or replace function pgq._trigger_columns(
    in i_table oid, in i_options jsonb,
    out col_no integer, out col_name text, out col_type oid, out key_no integer, out is_data boolean,
    out magic text, out new_text text, out old_text text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._trigger_columns(2)
    --
    --     The columns of a table as its capture trigger sees them, under their
    --     current names. Values are rendered by the output function of their
    --     type, not by a cast: char(n) keeps its blanks, boolean is t or f.
    --
    -- Parameters:
    --     i_table   - table
    --     i_options - from pgq._trigger_options
    --
    -- Returns:
    --     one row for each column in table order: col_no, col_name, col_type,
    --     key_no (place in the key, null: not in it), is_data (part of the
    --     event's data), magic (event field that the column replaces, or
    --     null), new_text and old_text (SQL for the value as text, null for
    --     null: $1 is the new row, or the old one of a delete; $2 the old row)
    --
    -- Raises:
    --     column with an unknown name in _pgq_ev_
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
    v_key text[];
begin
    if i_options ? 'pkey' then
        v_key := array(select jsonb_array_elements_text(i_options -> 'pkey'));
    else
        v_key := array(
            select a.attname::text
              from pg_index i
             cross join lateral unnest(i.indkey::smallint[]) with ordinality k (attnum, n)
              join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
             where i.indrelid = i_table
               and i.indisprimary
             order by k.n);
    end if;
    for col_no, col_name, col_type, new_text in
        select a.attnum, a.attname, a.atttypid,
               case when a.atttypid in ('text'::regtype, 'varchar'::regtype) then '(%s).%I::text'
                    else 'case when pg_catalog.num_nulls((%s).%I) = 0 then pg_catalog.format(''%%s'', (%1$s).%2$I) end' end
          from pg_attribute a
         where a.attrelid = i_table
           and a.attnum > 0
           and not a.attisdropped
         order by a.attnum
    loop
        old_text := format(new_text, '$2', col_name);
        new_text := format(new_text, '$1', col_name);
        key_no := array_position(v_key, col_name);
        magic := case when starts_with(col_name, '_pgq_ev_') then substr(col_name, 6) end;
        if magic not in ('ev_type', 'ev_data', 'ev_extra1', 'ev_extra2', 'ev_extra3', 'ev_extra4') then
            raise exception 'unknown magic column: %', col_name using errcode = 'invalid_column_definition';
        end if;
        is_data := magic is null and not coalesce(i_options -> 'ignore' ? col_name, false);
        return next;
    end loop;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
