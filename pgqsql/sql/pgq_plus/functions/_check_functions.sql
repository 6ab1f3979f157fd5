create or replace function pgq._check_functions(
    out area text, out object text, out severity text, out problem text, out remedy text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._check_functions(0)
    --
    --     The part of pgq.check() about functions: all of the contract are there,
    --     who should may execute them and nobody else, and none runs as its owner
    --     with the search path of its caller.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     rows as pgq.check()
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
        select 'function', r.name::text, 'error', 'role is missing',
               'create role ' || r.name || case when r.name = 'pgq_admin' then ' in role pgq_reader, pgq_writer' else '' end
          from unnest(array['pgq_reader', 'pgq_writer', 'pgq_admin']) r (name)
         where not exists (select 1 from pg_roles o where o.rolname = r.name);

    return query
        with wanted as (
            select w.role, 'pgq.' || f.name as signature, to_regprocedure('pgq.' || f.name)::oid as oid
              from (values
                ('public', array[
                    'get_queue_info()', 'get_queue_info(text)', 'get_consumer_info()', 'get_consumer_info(text)',
                    'get_consumer_info(text,text)', 'version()', 'seq_getval(text)', 'quote_fqname(text)']),
                ('pgq_reader', array[
                    'register_consumer(text,text)', 'register_consumer_at(text,text,bigint)',
                    'unregister_consumer(text,text)', 'next_batch(text,text)', 'next_batch_info(text,text)',
                    'next_batch_custom(text,text,interval,integer,interval)', 'get_batch_events(bigint)',
                    'get_batch_cursor(bigint,text,integer)', 'get_batch_cursor(bigint,text,integer,text)',
                    'get_batch_info(bigint)', 'event_retry(bigint,bigint,integer)',
                    'event_retry(bigint,bigint,timestamptz)', 'batch_retry(bigint,integer)', 'finish_batch(bigint)',
                    'force_tick(text)', 'batch_event_sql(bigint)', 'batch_event_tables(bigint)',
                    'find_tick_helper(integer,bigint,timestamptz,bigint,bigint,interval)']),
                ('pgq_writer', array[
                    'insert_event(text,text,text)', 'insert_event(text,text,text,text,text,text,text)',
                    'current_event_table(text)', 'logutriga()', 'sqltriga()', 'jsontriga()']),
                ('pgq_admin', array[
                    'ticker()', 'ticker(text)', 'ticker(text,bigint,timestamptz,bigint)', 'maint_retry_events()',
                    'maint_rotate_tables_step1(text)', 'maint_rotate_tables_step2()', 'maint_tables_to_vacuum()',
                    'maint_operations()', 'upgrade_schema()', 'grant_perms(text)', 'tune_storage(text)',
                    'seq_setval(text,bigint)', 'create_queue(text)', 'drop_queue(text)', 'drop_queue(text,boolean)',
                    'set_queue_config(text,text,text)',
                    'insert_event_raw(text,bigint,timestamptz,integer,integer,text,text,text,text,text,text)',
                    'event_retry_raw(text,text,timestamptz,bigint,timestamptz,integer,text,text,text,text,text,text)'])) w (role, functions)
             cross join lateral unnest(w.functions) f (name)),
        found as (
            select w.role, w.signature, p.oid,
                   exists (select 1 from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0)
                       as everybody,
                   exists (select 1 from pg_roles o where o.rolname = w.role and has_function_privilege(o.oid, p.oid, 'execute'))
                       as allowed
              from wanted w
              left join pg_proc p on p.oid = w.oid)
        select 'function', f.signature, 'error', 'is missing',
               'skyd schema install --db DSN; of an extension: alter extension pgq update'
          from found f
         where f.oid is null
        union all
        select 'function', f.signature, 'warning', 'everybody may execute it, it is for ' || f.role,
               format('revoke execute on function %s from public; grant execute on function %s to %s', f.signature, f.signature, f.role)
          from found f
         where f.everybody and f.role <> 'public'
        union all
        select 'function', f.signature, 'error', f.role || ' may not execute it',
               format('grant execute on function %s to %s', f.signature, f.role)
          from found f
         where f.oid is not null and not f.everybody and not f.allowed
           and (f.role = 'public' or exists (select 1 from pg_roles o where o.rolname = f.role));

    return query
        select 'function', p.oid::regprocedure::text, 'error',
               'runs as ' || pg_get_userbyid(p.proowner) || ' with the search path of its caller, who can make it run own code',
               'skyd schema harden --db DSN'
          from pg_proc p
          join pg_namespace n on n.oid = p.pronamespace
         where n.nspname in ('pgq', 'pgq_coop', 'pgq_ext', 'pgq_node', 'londiste')
           and p.prosecdef
           and not exists (select 1 from unnest(p.proconfig) c where c like 'search_path=%');
end;
$$ language plpgsql volatile set search_path = pg_catalog, pg_temp;
