create or replace function skyd.capture_statement(i_kind text, i_table oid, i_op text, i_options jsonb, i_many boolean)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_statement(5)
    --
    --     Query that makes the events of a whole statement from the transition
    --     tables old_rows and new_rows. Both hold the rows in the order in
    --     which they were changed; where an event needs the old and the new
    --     row they are paired by their place.
    --
    -- Parameters:
    --     i_kind    - logutriga, sqltriga or jsontriga
    --     i_table   - table
    --     i_op      - INSERT, UPDATE or DELETE
    --     i_options - from skyd.capture_options
    --     i_many    - true: several rows of at most 20000 events each; an
    --                 array cannot be as large as a statement
    --
    -- Returns:
    --     SELECT of key_changed, key_null, no_answer (of when=; all boolean),
    --     types, datas, extra1 to extra4 (text[], null for fields that are
    --     always null)
    --
    -- Raises:
    --     a table with partitions or children; as skyd.capture_event(6)
    --
    -- Calls:
    --     skyd.capture_event(6), skyd.capture_columns(2),
    --     skyd.capture_column(2)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    c_some   constant integer := 20000;
    v_sql    record;
    v_from   text;
    v_where  text := '';
    v_order  text := '';
    v_key    text := 'false';
    v_filter text := '';
    v_row    text := case i_op when 'DELETE' then 'o' else 'n' end;
    v_pair   boolean;
    v_list   text := '';
    v_keys_old text;
    v_keys_new text;
    v_field  record;
begin
    if exists (select from pg_inherits i where i.inhparent = i_table or i.inhrelid = i_table)
       or (select r.relkind from pg_class r where r.oid = i_table) <> 'r' then
        raise exception 'table % has partitions or children, or is one: capture it row by row', i_table::regclass
            using errcode = 'feature_not_supported', hint = 'A statement does not tell which table each row is in.';
    end if;
    v_sql := skyd.capture_event(i_kind, i_table, i_op, i_options, v_row, 'o');
    v_pair := i_op = 'UPDATE' and (i_kind = 'sqltriga' or v_sql.passed_over is not null or i_options ? 'backup');
    if v_pair then
        v_from := '(select pg_catalog.row_number() over () as "skyd place", x.* from old_rows x) o join '
                  '(select pg_catalog.row_number() over () as "skyd place", x.* from new_rows x) n '
                  'on o."skyd place" operator(pg_catalog.=) n."skyd place"';
        v_order := ' order by n."skyd place"';
        v_key := coalesce('(' || v_sql.key_changed || ') is true', 'false');
        if v_sql.passed_over is not null then
            v_where := format(' where (%s) is not true or (%s) is true', v_sql.passed_over, coalesce(v_sql.key_changed, 'false'));
        end if;
    else
        v_from := case i_op when 'DELETE' then 'old_rows o' else 'new_rows n' end;
    end if;
    -- one key column whose equal values have equal texts is compared as it is, others as text
    select max(k.sql) filter (where k.r = 'o'), max(k.sql) filter (where k.r = 'n')
      into v_keys_old, v_keys_new
      from (select r.r,
                   case when count(*) = 1 and bool_and(c.col_base in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'uuid'::regtype))
                            then min(skyd.capture_column(r.r, c.col_name)) || '::pg_catalog.' || min(t.typname)
                        else 'row(' || string_agg(skyd.capture_column(r.r, c.col_name), ', ' order by c.col_no) || ')::pg_catalog.text'
                   end as sql
              from (values ('o'), ('n')) r (r)
             cross join skyd.capture_columns(i_table, i_options) c
              join pg_type t on t.oid = c.col_base
             where c.is_key
             group by r.r) k;
    if v_sql.wanted is not null then
        v_filter := ' filter (where s.wanted)';
    end if;
    for v_field in
        select f.name, f.field, f.value
          from (values ('types', 'ev_type', v_sql.ev_type), ('datas', 'ev_data', v_sql.ev_data), ('extra1', 'ev_extra1', v_sql.ev_extra1),
                       ('extra2', 'ev_extra2', v_sql.ev_extra2), ('extra3', 'ev_extra3', v_sql.ev_extra3),
                       ('extra4', 'ev_extra4', v_sql.ev_extra4)) f (name, field, value)
    loop
        v_list := v_list || case when v_field.value = 'null' then format(', null::pg_catalog.text[] as %I', v_field.name)
            when v_field.value ~ '^''([^'']|'''')*''$' then format(
                ', pg_catalog.array_fill(%s::pg_catalog.text, array[pg_catalog.count(*)%s::pg_catalog.int4]) as %I', v_field.value, v_filter, v_field.name)
            else format(', pg_catalog.array_agg(s.%I%s)%s as %I', v_field.field, case when i_many then ' order by s."skyd place"' else '' end,
                        v_filter, v_field.name) end;
    end loop;
    return format(
        'select %s as key_changed, coalesce(pg_catalog.bool_or(s.key_null), false) as key_null,'
        ' coalesce(pg_catalog.bool_or(s.wanted is null), false) as no_answer%s from (select %s as key_changed, %s as key_null,'
        ' %s as wanted, (%s)::pg_catalog.text as ev_type, (%s)::pg_catalog.text as ev_data, (%s)::pg_catalog.text as ev_extra1,'
        ' (%s)::pg_catalog.text as ev_extra2, (%s)::pg_catalog.text as ev_extra3, (%s)::pg_catalog.text as ev_extra4%s from %s%s%s) s%s',
        case when v_pair or v_sql.key_changed is null then 'coalesce(pg_catalog.bool_or(s.key_changed), false)'
            else format('pg_catalog.array_ne((select pg_catalog.array_agg(%s) from old_rows o), (select pg_catalog.array_agg(%s) from new_rows n))',
                        v_keys_old, v_keys_new) end,
        v_list, v_key, coalesce('(' || v_sql.key_null || ')', 'false'), coalesce(v_sql.wanted, 'true'),
        v_sql.ev_type, v_sql.ev_data, v_sql.ev_extra1, v_sql.ev_extra2, v_sql.ev_extra3, v_sql.ev_extra4,
        case when not i_many then '' when v_pair then ', n."skyd place"' else ', pg_catalog.row_number() over () as "skyd place"' end,
        v_from, v_where, v_order,
        case when i_many then format(' group by (s."skyd place" operator(pg_catalog.-) 1) operator(pg_catalog./) %s'
                                     ' order by pg_catalog.min(s."skyd place")', c_some) else '' end);
end;
$$ language plpgsql stable set search_path = pg_catalog, skyd, pg_temp;
