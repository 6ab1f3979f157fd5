create or replace function skyd.capture_json_type(i_table oid, i_op text, i_key_json text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_json_type(3)
    --
    --     Event type of jsontriga.
    --
    -- Parameters:
    --     i_table    - table
    --     i_op       - TG_OP
    --     i_key_json - key columns as a JSON array
    --
    -- Returns:
    --     {"op":..,"table":[schema,table],"pkey":[..]} without blanks
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
begin
    return (select format('{"op":"%s","table":[%s,%s],"pkey":%s}', i_op,
                          to_json(n.nspname::text), to_json(r.relname::text), i_key_json)
              from pg_class r
              join pg_namespace n on n.oid = r.relnamespace
             where r.oid = i_table);
end;
$$ language plpgsql stable set search_path = pg_catalog, skyd, pg_temp;
