create or replace function skyd.capture_route()
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_route(0)
    --
    --     Brings the code between capture triggers and their encoders up to
    --     date. Called when an encoder is made or dropped, by the installer,
    --     and by triggers that find no way to an encoder that is there.
    --
    --     Never waits: where another transaction is at it, rows take the long
    --     way to their encoder and call this again. Functions are replaced,
    --     never dropped, so that no writer finds one missing. A snapshot that
    --     may be old (repeatable read) would drop the routes that it does not
    --     see.
    --
    --     Security definer: the functions belong to the owner of this one.
    --     They run with the rights of whoever writes.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     true when everything is up to date
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     skyd.capture_routes(0)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     advisory lock (1936423269, 0) until the transaction ends, without
    --     waiting
    -- ----------------------------------------------------------------
declare
    v_func record;
begin
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable')
       or not pg_try_advisory_xact_lock(1936423269, 0) then
        return false;
    end if;
    -- those that are called before those that call them
    for v_func in
        select r.func_name, r.arguments, r.body, p.oid is null as missing
          from skyd.capture_routes() r
          left join pg_proc p on p.pronamespace = 'skyd_gen'::regnamespace and p.proname = r.func_name
         where p.prosrc is distinct from r.body
         order by r.func_name !~ '_[0-9]+$', r.func_name
    loop
        execute format('create or replace function skyd_gen.%I(%s) returns boolean language sql volatile as %L',
                       v_func.func_name, v_func.arguments, v_func.body);
        if v_func.missing then
            execute format('revoke all on function skyd_gen.%I from public', v_func.func_name);
            execute format('grant execute on function skyd_gen.%I to pgq_writer', v_func.func_name);
        end if;
    end loop;
    return true;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, skyd, pg_temp;
