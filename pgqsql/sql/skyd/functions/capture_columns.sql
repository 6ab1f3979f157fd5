create or replace function skyd.capture_columns(
    in i_table oid, in i_options jsonb,
    out col_no integer, out col_name text, out col_type oid, out col_base oid, out is_key boolean, out is_data boolean,
    out magic text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_columns(2)
    --
    --     The columns of a table as its capture trigger sees them, under their
    --     current names.
    --
    -- Parameters:
    --     i_table   - table
    --     i_options - from skyd.capture_options
    --
    -- Returns:
    --     one row for each column in table order: col_no, col_name, col_type,
    --     col_base (type below domains), is_key (a change of it raises),
    --     is_data (part of the event's data), magic (event field that the
    --     column replaces, or null)
    --
    -- Raises:
    --     column with an unknown name in _pgq_ev_
    --
    -- Calls:
    --     skyd.capture_listed(2)
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
    v_key := array(
        select a.attname::text
          from pg_index i
         cross join lateral unnest(i.indkey::smallint[]) k (attnum)
          join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
         where i.indrelid = i_table
           and i.indisprimary);
    for col_no, col_name, col_type in
        select a.attnum, a.attname, a.atttypid
          from pg_attribute a
         where a.attrelid = i_table
           and a.attnum > 0
           and not a.attisdropped
         order by a.attnum
    loop
        magic := case when starts_with(col_name, '_pgq_ev_') then substr(col_name, 6) end;
        if magic not in ('ev_type', 'ev_data', 'ev_extra1', 'ev_extra2', 'ev_extra3', 'ev_extra4') then
            raise exception 'unknown magic column: %', col_name using errcode = 'invalid_column_definition';
        end if;
        is_key := magic is null and case when i_options ? 'pkey' then skyd.capture_listed(i_options ->> 'pkey', col_name)
                                         else col_name = any (v_key) end;
        is_data := magic is null and not skyd.capture_listed(i_options ->> 'ignore', col_name);
        col_base := col_type;
        while exists (select from pg_type t where t.oid = col_base and t.typtype = 'd') loop
            col_base := (select t.typbasetype from pg_type t where t.oid = col_base);
        end loop;
        return next;
    end loop;
end;
$$ language plpgsql stable set search_path = pg_catalog, skyd, pg_temp;
