create or replace function skyd.capture_leftovers(out function_oid oid, out func_name text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_leftovers(0)
    --
    --     Encoders whose trigger is gone, and those that are not used any
    --     longer (e..).
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     functions and procedures of schema skyd_gen: function_oid, func_name
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
    return query
        select p.oid, p.proname::text
          from pg_proc p
         where p.pronamespace = 'skyd_gen'::regnamespace
           and p.proname ~ '^([eors]|[xy][iud])[0-9]+_[0-9a-f]+$'
           and (p.proname like 'e%' or not exists (
               select from pg_trigger t
                where regexp_replace(p.proname, '^[a-z]+', '') = t.tgrelid || '_' || to_hex(hashtextextended(t.tgname::text, 0))));
end;
$$ language plpgsql stable set search_path = pg_catalog, skyd, pg_temp;
