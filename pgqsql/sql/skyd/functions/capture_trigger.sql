create or replace function skyd.capture_trigger(
    in i_table oid, in i_trigger text,
    out trigger_oid oid, out kind text, out form text, out fires integer, out args text[])
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_trigger(2)
    --
    --     Reads the definition of a capture trigger from the catalog.
    --
    -- Parameters:
    --     i_table   - table
    --     i_trigger - name of the trigger
    --
    -- Returns:
    --     trigger_oid, kind (logutriga, sqltriga or jsontriga), form (row or
    --     statement; null: not a capture trigger), fires (pg_trigger.tgtype),
    --     args (from index 0, the queue). All null when there is no such
    --     trigger
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
    v_left  bytea;
    v_end   integer;
    v_name  text;
    v_space text;
begin
    select t.oid, t.tgtype, t.tgargs, p.proname, n.nspname
      into trigger_oid, fires, v_left, v_name, v_space
      from pg_trigger t
      join pg_proc p on p.oid = t.tgfoid
      join pg_namespace n on n.oid = p.pronamespace
     where t.tgrelid = i_table
       and t.tgname = i_trigger;
    loop
        v_end := position('\x00'::bytea in v_left);
        exit when v_end = 0 or v_end is null;
        args[coalesce(array_upper(args, 1) + 1, 0)] := convert_from(substring(v_left for v_end - 1), getdatabaseencoding());
        v_left := substring(v_left from v_end + 1);
    end loop;
    if v_space = 'pgq' and v_name in ('logutriga', 'sqltriga', 'jsontriga') then
        form := 'row';
        kind := v_name;
    elsif v_space = 'pgq' and v_name in ('logutriga_stmt', 'sqltriga_stmt', 'jsontriga_stmt') then
        form := 'statement';
        kind := left(v_name, -5);
    end if;
end;
$$ language plpgsql stable set search_path = pg_catalog, skyd, pg_temp;
