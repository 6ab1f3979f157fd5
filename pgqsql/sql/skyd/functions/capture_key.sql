create or replace function skyd.capture_key(in i_table oid, in i_options jsonb, out key_list text, out key_json text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_key(2)
    --
    --     The key columns of a table as event types name them: those of the
    --     primary key in index order, or the list of pkey= as it was written.
    --
    -- Parameters:
    --     i_table   - table
    --     i_options - from skyd.capture_options
    --
    -- Returns:
    --     key_list (with commas between; empty: no key) and key_json (an array
    --     without blanks)
    --
    -- Raises:
    --     none
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
    v_names text[];
begin
    if i_options ? 'pkey' then
        v_names := regexp_split_to_array(i_options ->> 'pkey', ',');
    else
        v_names := array(
            select a.attname::text
              from pg_index i
             cross join lateral unnest(i.indkey::smallint[]) with ordinality k (attnum, n)
              join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
             where i.indrelid = i_table
               and i.indisprimary
             order by k.n);
    end if;
    key_list := array_to_string(v_names, ',');
    key_json := (select '[' || coalesce(string_agg(to_json(u.name)::text, ',' order by u.n), '') || ']'
                   from unnest(v_names) with ordinality u (name, n));
end;
$$ language plpgsql stable set search_path = pg_catalog, skyd, pg_temp;
