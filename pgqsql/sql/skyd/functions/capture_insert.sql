create or replace function skyd.capture_insert(i_queue_name text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_insert(1)
    --
    --     SQL for the call that inserts an event, up to its fields. With skyd's
    --     own PgQ that is generated code, see pgq._inserter_parts; beside the C
    --     extension there is none.
    --
    -- Parameters:
    --     i_queue_name - queue
    --
    -- Returns:
    --     begin of an expression of type bigint; six fields and a bracket are
    --     to follow
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none; the code that it makes: pgq.insert_event(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return case when to_regproc('pgq._make_inserters') is null then format('pgq.insert_event(%L, ', i_queue_name)
                else format('skyd_gen.capture_event(%s, %L, ', coalesce(hashtext(i_queue_name), 0), i_queue_name) end;
end;
$$ language plpgsql stable set search_path = pg_catalog, skyd, pg_temp;
