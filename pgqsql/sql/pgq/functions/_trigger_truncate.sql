create or replace function pgq._trigger_truncate(i_kind text, i_table oid, i_options jsonb, i_queue_name text)
returns void as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._trigger_truncate(4)
    --
    --     Writes the event of a truncate.
    --
    -- Parameters:
    --     i_kind       - logutriga, sqltriga or jsontriga
    --     i_table      - table
    --     i_options    - from pgq._trigger_options
    --     i_queue_name - queue name
    --
    -- Returns:
    --     nothing
    --
    -- Raises:
    --     arguments that need a row; as pgq.insert_event(7)
    --
    -- Calls:
    --     pgq._trigger_columns(2), pgq._trigger_json_type(3),
    --     pgq.insert_event(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_event(7)
    -- ----------------------------------------------------------------
declare
    v_row_options text;
    v_key         text;
begin
    select string_agg(k, ', ' order by k) into v_row_options
      from jsonb_object_keys(i_options) k
     where k <> 'skip';
    if v_row_options is not null then
        raise exception 'truncate trigger on table %: arguments need a row: %', i_table::regclass, v_row_options
            using errcode = 'invalid_parameter_value';
    end if;
    if i_kind = 'jsontriga' then
        select coalesce(json_agg(c.col_name order by c.key_no), '[]')::text into v_key
          from pgq._trigger_columns(i_table, i_options) c
         where c.key_no is not null;
    end if;
    perform pgq.insert_event(
        i_queue_name,
        case i_kind when 'jsontriga' then pgq._trigger_json_type(i_table, 'TRUNCATE', v_key) else 'R' end,
        case i_kind when 'jsontriga' then '{}' else '' end,
        (select n.nspname || '.' || r.relname
           from pg_class r join pg_namespace n on n.oid = r.relnamespace where r.oid = i_table),
        null, null, null);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
