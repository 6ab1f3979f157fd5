-- Rights of the PgQ contract, section 11. Everything is taken away first, so
-- that a second run ends in the same state as the first.
grant usage on schema pgq to public;

do $$
declare
    v_func regprocedure;
begin
    for v_func in
        select p.oid from pg_catalog.pg_proc p
        where p.pronamespace = 'pgq'::regnamespace
          and not exists (
              -- pgq_plus looks after its own
              select from skyd.schema_function f
              where f.schema_name <> 'pgq' and f.signature = p.oid::regprocedure::text)
    loop
        execute pg_catalog.format('revoke all on function %s from public, pgq_reader, pgq_writer, pgq_admin', v_func);
    end loop;
end
$$;

-- everybody
grant execute on function
    pgq.get_queue_info(), pgq.get_queue_info(text),
    pgq._event_count(text),
        pgq.get_consumer_info(), pgq.get_consumer_info(text), pgq.get_consumer_info(text, text),
    pgq.version(), pgq.seq_getval(text), pgq.quote_fqname(text), pgq.wakeup_channel(text)
to public;

-- consumers
grant execute on function
    pgq.register_consumer(text, text), pgq.register_consumer_at(text, text, bigint),
    pgq.unregister_consumer(text, text),
    pgq.next_batch(text, text), pgq.next_batch_info(text, text),
    pgq.next_batch_custom(text, text, interval, integer, interval),
    pgq.get_batch_events(bigint), pgq.get_batch_info(bigint),
    pgq.get_batch_cursor(bigint, text, integer), pgq.get_batch_cursor(bigint, text, integer, text),
    pgq.event_retry(bigint, bigint, integer), pgq.event_retry(bigint, bigint, timestamptz),
    pgq.batch_retry(bigint, integer), pgq.finish_batch(bigint), pgq.force_tick(text),
    pgq.batch_event_sql(bigint), pgq.batch_event_tables(bigint),
    pgq._find_batch(bigint), pgq._batch_range(bigint),
    pgq.find_tick_helper(integer, bigint, timestamptz, bigint, bigint, interval)
to pgq_reader;

-- producers
grant execute on function
    pgq.insert_event(text, text, text),
    pgq.insert_event(text, text, text, text, text, text, text),
    pgq.current_event_table(text),
    pgq.logutriga(), pgq.sqltriga(), pgq.jsontriga(),
    pgq._pin_queue(text), skyd.capture_build(oid, text), skyd.capture_route()
to pgq_writer;

-- administration and the ticker
grant execute on function
    pgq.ticker(), pgq.ticker(text), pgq.ticker(text, bigint, timestamptz, bigint),
    pgq.maint_retry_events(), pgq.maint_rotate_tables_step1(text), pgq.maint_rotate_tables_step2(),
    pgq.maint_tables_to_vacuum(), pgq.maint_operations(), pgq.upgrade_schema(),
    pgq._has_function(text, text), pgq._check_tx_limit(integer, integer, bigint),
    pgq._inserters(), pgq._inserter_parts(integer, text), pgq._inserter_tree(text, integer[], text[]), pgq._inserters_stale(), pgq._make_inserters(),
    skyd.capture_clean(),
    pgq.grant_perms(text), pgq.tune_storage(text), pgq.seq_setval(text, bigint),
    pgq.create_queue(text), pgq.drop_queue(text), pgq.drop_queue(text, boolean),
    pgq.set_queue_config(text, text, text),
    pgq.insert_event_raw(text, bigint, timestamptz, integer, integer, text, text, text, text, text, text),
    pgq.event_retry_raw(text, text, timestamptz, bigint, timestamptz, integer, text, text, text, text, text, text)
to pgq_admin;

grant select on pgq.consumer, pgq.queue, pgq.tick, pgq.subscription to public;
grant select on pgq.consumer, pgq.queue, pgq.tick, pgq.subscription, pgq.event_template to pgq_reader;
grant select, insert, update, delete
    on pgq.consumer, pgq.queue, pgq.tick, pgq.subscription, pgq.retry_queue to pgq_admin;
grant select, insert, truncate on pgq.event_template to pgq_admin;

-- the code behind pgq.insert_event and the capture triggers; here because this file runs after every
-- other one that changes
do $$
begin
    perform pgq._make_inserters();
    perform skyd.capture_route();
end
$$;
