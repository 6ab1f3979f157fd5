-- Rights of the pgq_ext contract.
grant usage on schema pgq_ext to public;

do $$
declare
    v_func regprocedure;
begin
    for v_func in
        select p.oid from pg_catalog.pg_proc p where p.pronamespace = 'pgq_ext'::regnamespace
    loop
        execute pg_catalog.format('revoke all on function %s from public, pgq_reader, pgq_writer, pgq_admin', v_func);
    end loop;
end
$$;

grant execute on function pgq_ext.version() to public;
grant execute on function
    pgq_ext.is_batch_done(text, bigint),
    pgq_ext.is_batch_done(text, text, bigint),
    pgq_ext.set_batch_done(text, bigint),
    pgq_ext.set_batch_done(text, text, bigint),
    pgq_ext.is_event_done(text, bigint, bigint),
    pgq_ext.is_event_done(text, text, bigint, bigint),
    pgq_ext.set_event_done(text, bigint, bigint),
    pgq_ext.set_event_done(text, text, bigint, bigint),
    pgq_ext.get_last_tick(text),
    pgq_ext.get_last_tick(text, text),
    pgq_ext.set_last_tick(text, bigint),
    pgq_ext.set_last_tick(text, text, bigint),
    pgq_ext.upgrade_schema()
to pgq_writer;
