create or replace function skyd.capture_shape(i_table oid, i_trigger text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_shape(2)
    --
    --     Hash of all that the code of an encoder was made from: table name,
    --     columns, key, the trigger with its arguments. Volatile for the sake
    --     of a snapshot of its own.
    --
    -- Parameters:
    --     i_table   - table
    --     i_trigger - name of the trigger
    --
    -- Returns:
    --     hash; null when there is no such trigger
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
    -- the number is the version of the code that is made: a new one makes all encoders anew
    return (select md5(jsonb_build_array(3, n.nspname, r.relname, t.tgname, t.tgfoid, t.tgtype, encode(t.tgargs, 'hex'),
                       (select jsonb_agg(jsonb_build_array(a.attnum, a.attname, a.atttypid) order by a.attnum)
                          from pg_attribute a where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped),
                       (select i.indkey::text from pg_index i where i.indrelid = r.oid and i.indisprimary))::text)
              from pg_trigger t
              join pg_class r on r.oid = t.tgrelid
              join pg_namespace n on n.oid = r.relnamespace
             where t.tgrelid = i_table
               and t.tgname = i_trigger);
end;
$$ language plpgsql volatile set search_path = pg_catalog, skyd, pg_temp;
