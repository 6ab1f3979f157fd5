create or replace function pgq._make_inserter(i_queue_id integer, i_queue_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._make_inserter(2)
    --
    --     Brings the generated code behind pgq.insert_event up to date with
    --     one queue that came or went: where there are many, the parts that
    --     have it; else all.
    --
    --     Never waits: where another transaction is at it, maintenance comes
    --     later. Functions are replaced, never dropped, so that no producer
    --     finds one missing.
    --
    --     Security definer: the functions must belong to the owner of
    --     pgq.insert_event.
    --
    -- Parameters:
    --     i_queue_id   - the queue, null: all of them
    --     i_queue_name - its name
    --
    -- Returns:
    --     0
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq._inserter_parts(2)
    --
    -- Tables:
    --     read - pgq.queue
    --
    -- Locks:
    --     advisory lock (1885827445, 0) until the transaction ends, without
    --     waiting
    -- ----------------------------------------------------------------
declare
    v_func record;
    v_few  boolean;
begin
    if not pg_try_advisory_xact_lock(1885827445, 0) then
        return 0;
    end if;
    -- with 33 the code has just been divided
    v_few := (select count(*) from (select 1 from pgq.queue limit 34) q) <= 33;
    -- those that are called before those that call them
    for v_func in
        select w.*
          from pgq._inserter_parts(case when not v_few then i_queue_id end, i_queue_name) w
         where not exists (
                   select 1
                     from pg_proc p
                     join pg_namespace n on n.oid = p.pronamespace
                    where n.nspname = 'skyd_gen' and p.proname = w.func_name and p.prosrc = w.body)
         order by w.func_name !~ '_[0-9]+$', w.func_name
    loop
        execute format('create or replace function skyd_gen.%I(%s) returns %s language plpgsql volatile %s as %L',
                       v_func.func_name, v_func.arguments, v_func.result,
                       case v_func.func_name when 'capture_event' then 'security definer' else '' end, v_func.body);
        execute format('revoke all on function skyd_gen.%I from public', v_func.func_name);
        if v_func.func_name = 'capture_event' then
            execute 'grant execute on function skyd_gen.capture_event to pgq_writer';
        end if;
    end loop;
    return 0;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
