create or replace function skyd.capture_truncate(i_kind text, i_table oid, i_when text, i_args text[])
returns void as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_truncate(4)
    --
    --     Writes the event of a truncate.
    --
    -- Parameters:
    --     i_kind  - logutriga, sqltriga or jsontriga
    --     i_table - TG_RELID
    --     i_when  - TG_WHEN
    --     i_args  - TG_ARGV
    --
    -- Returns:
    --     nothing
    --
    -- Raises:
    --     denied; arguments that need a row; as pgq.insert_event(7)
    --
    -- Calls:
    --     skyd.capture_options(1), skyd.capture_refuse(4),
    --     skyd.capture_key(2), skyd.capture_json_type(3), pgq.insert_event(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_event(7)
    -- ----------------------------------------------------------------
declare
    v_options     jsonb := skyd.capture_options(i_args);
    v_row_options text;
begin
    perform skyd.capture_refuse(i_table, 'TRUNCATE', i_when, v_options);
    select string_agg(k, ', ' order by k) into v_row_options
      from jsonb_object_keys(v_options) k
     where k <> 'skip';
    if v_row_options is not null then
        raise exception 'truncate trigger on table %: arguments need a row: %', i_table::regclass, v_row_options
            using errcode = 'invalid_parameter_value';
    end if;
    perform pgq.insert_event(
        i_args[0],
        case i_kind when 'jsontriga'
            then skyd.capture_json_type(i_table, 'TRUNCATE', (skyd.capture_key(i_table, v_options)).key_json) else 'R' end,
        case i_kind when 'jsontriga' then '{}' else '' end,
        (select n.nspname || '.' || r.relname
           from pg_class r join pg_namespace n on n.oid = r.relnamespace where r.oid = i_table),
        null, null, null);
end;
$$ language plpgsql volatile set search_path = pg_catalog, skyd, pg_temp;
