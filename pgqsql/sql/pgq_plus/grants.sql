-- Rights of the additions. Everything is taken away first, so that a second
-- run ends in the same state as the first.
do $$
declare
    v_func text;
begin
    for v_func in
        select f.signature from skyd.schema_function f
        where f.schema_name = 'pgq_plus' and to_regprocedure(f.signature) is not null
    loop
        execute pg_catalog.format('revoke all on function %s from public, pgq_reader, pgq_writer, pgq_admin', v_func);
    end loop;
end
$$;

revoke all on
    pgq.dead_letter, pgq.queue_health, pgq.consumer_health,
    pgq.consumer_limit, pgq.consumer_state, pgq.consumer_action,
    pgq.queue_right, pgq.queue_grants, pgq.consumer_holder, pgq.caller_key, pgq.caller
from public, pgq_reader, pgq_writer, pgq_admin;

-- everybody
grant execute on function pgq.capture_hazards(regclass) to public;
grant execute on function pgq.plus_version(), pgq.lease_key(text) to public;
grant select on pgq.lease to public;
grant execute on function
    pgq.plus_version(), pgq.queue_option_kinds(), pgq.get_queue_options(text), pgq._queue_option(integer, text)
to public;
grant select on pgq.queue_option to public;

-- consumers
grant execute on function
    pgq.lease_take(text, text, interval), pgq.lease_renew(text, bigint, interval),
    pgq.lease_release(text, bigint), pgq.lease_fence(text, bigint)
to pgq_reader;
grant execute on function
    pgq.events_retry(bigint, bigint[], integer), pgq.nack(bigint, bigint, text),
    pgq.nack_events(bigint, bigint[], text[]), pgq.events_dead(bigint, bigint[], text[]),
    pgq.dead_letter_info(text, text), pgq.dead_letter_list(bigint), pgq.dead_letter_list(text, text, bigint, integer),
    pgq.get_queue_health(text), pgq.get_consumer_health(text, text), pgq.consumer_paused(text, text)
to pgq_reader;
grant select on
    pgq.queue_health, pgq.consumer_health, pgq.consumer_limit, pgq.consumer_state, pgq.consumer_action
to pgq_reader;
grant execute on function
    pgq.receive_batch(text, text, bigint, integer, integer, boolean),
    pgq.rewind(text, text, timestamptz), pgq.rewind_to_tick(text, text, bigint)
to pgq_reader;

-- producers
grant execute on function
    pgq.logutriga_stmt(), pgq.sqltriga_stmt(), pgq.jsontriga_stmt(),
    pgq.capture_table(regclass, text, text, text, text[]),
    skyd.capture_build(oid, text)
to pgq_writer;
grant execute on function
    pgq.insert_events(text, text[], text[], text[], text[], text[], text[]), pgq.insert_events(text, jsonb),
    pgq.insert_event_once(text, text, interval, text, text, text, text, text, text),
    pgq.insert_event_at(text, timestamptz, text, text, text, text, text, text)
to pgq_writer;

-- administration
grant execute on function pgq.maint_delayed_events(), pgq.maint_event_keys() to pgq_admin;
grant select on pgq.delayed_event, pgq.event_key to pgq_admin;
grant execute on function pgq.close_queue(text), pgq.open_queue(text) to pgq_admin;
grant execute on function
    pgq.create_queue(text, jsonb), pgq.set_queue_options(text, jsonb), pgq._check_option(text, text)
to pgq_admin;
grant select, insert, update, delete on pgq.queue_option to pgq_admin;
grant execute on function
    pgq.dead_letter_redrive(bigint), pgq.dead_letter_redrive(text, text, text, timestamptz, integer),
    pgq._dead_letters_back(bigint[]), pgq._main_consumer(integer, integer),
    pgq.dead_letter_purge(bigint), pgq.dead_letter_purge(text, text, interval),
    pgq.maint_dead_letters(), pgq.plus_maint_operations(),
    pgq._consumer_lag(integer, integer), pgq._consumer_over(pgq.consumer_limit, interval, bigint, bigint),
    pgq.set_consumer_limit(text, text, text, interval, bigint, bigint),
    pgq._detach_consumer(integer, integer, pgq.consumer_limit), pgq.maint_consumer_limits(),
    pgq.reattach_consumer(text, text), pgq.resume_consumer(text, text)
to pgq_admin;
grant select, insert, update, delete on
    pgq.dead_letter, pgq.consumer_limit, pgq.consumer_state, pgq.consumer_action
to pgq_admin;

-- ordered groups
grant execute on function pgq.key_slot(text, integer) to public;
grant select on pgq.slot_group, pgq.group_slot, pgq.group_worker, pgq.group_info to public;
grant execute on function
    pgq.create_group(text, text, text, integer), pgq.drop_group(text, text), pgq.resize_group(text, text, integer),
    pgq.acquire_slots(text, text, text, interval), pgq.renew_slots(text, text, text, interval),
    pgq.release_slots(text, text, text), pgq.next_group_batch(text, text, text, integer[], integer),
    pgq.get_group_events(jsonb), pgq.get_group_cursor(jsonb, text, integer), pgq.finish_group_batch(jsonb),
    pgq._find_group(text, text, boolean), pgq._group_event_sql(jsonb)
to pgq_reader;
grant select, insert, update, delete on pgq.slot_group, pgq.group_slot, pgq.group_worker to pgq_admin;

-- check and repair
grant execute on function
    pgq.rebase_after_restore(), pgq.check(), pgq._check_functions(), pgq._check_triggers(), pgq._check_queues(),
    pgq._check_consumers(), pgq._check_rotation()
to pgq_admin;

-- rights per queue: everybody may call, each checks the right of its caller
grant execute on function
    pgq.caller_proof(),
    pgq.queue_insert_event(text, text, text, text, text, text, text, text),
    pgq.queue_register_consumer(text, text, text), pgq.queue_unregister_consumer(text, text, text),
    pgq.queue_next_batch(text, text, text), pgq.queue_get_batch_events(bigint, text),
    pgq.queue_event_retry(bigint, bigint, integer, text), pgq.queue_finish_batch(bigint, text)
to public;
grant select on pgq.caller, pgq.queue_grants to public;
grant execute on function
    pgq.grant_queue(text, text, text), pgq.revoke_queue(text, text, text),
    pgq._queue_right_ids(text, text, text), pgq.maint_queue_rights()
to pgq_admin;
grant select, insert, update, delete on pgq.queue_right, pgq.consumer_holder to pgq_admin;
