create or replace function skyd.capture_clean()
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_clean(0)
    --
    --     Drops the encoders whose trigger is gone. They do no harm; it is for
    --     order. pgq.maint_operations lists it when there are any.
    --
    --     Security definer: the encoders belong to the owner of this function.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     number of encoders dropped
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     skyd.capture_route(0), skyd.capture_leftovers(0)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as skyd.capture_route(0); advisory locks of the encoders that it drops; passes over those that
    --     somebody makes right now
    -- ----------------------------------------------------------------
declare
    v_row   record;
    v_count integer := 0;
begin
    -- first of all no route leads there; those who are at it have the next turn
    if not skyd.capture_route() then
        return 0;
    end if;
    for v_row in
        select l.function_oid, l.func_name from skyd.capture_leftovers() l
    loop
        if pg_try_advisory_xact_lock(1936423268, hashtext(regexp_replace(v_row.func_name, '^[a-z]+', ''))) then
            execute format('drop routine if exists %s', v_row.function_oid::regprocedure);
            v_count := v_count + 1;
        end if;
    end loop;
    return v_count;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, skyd, pg_temp;
