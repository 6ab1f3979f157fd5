-- Rights of the pgq_coop contract.
grant usage on schema pgq_coop to public;

do $$
declare
    v_func regprocedure;
begin
    for v_func in
        select p.oid from pg_catalog.pg_proc p where p.pronamespace = 'pgq_coop'::regnamespace
    loop
        execute pg_catalog.format('revoke all on function %s from public, pgq_reader, pgq_writer, pgq_admin', v_func);
    end loop;
end
$$;

grant execute on function pgq_coop.version() to public;
grant execute on function
    pgq_coop.register_subconsumer(text, text, text),
    pgq_coop.unregister_subconsumer(text, text, text, integer),
    pgq_coop.next_batch(text, text, text),
    pgq_coop.next_batch(text, text, text, interval),
    pgq_coop.next_batch_custom(text, text, text, interval, integer, interval),
    pgq_coop.next_batch_custom(text, text, text, interval, integer, interval, interval),
    pgq_coop.finish_batch(bigint), pgq_coop.touch(bigint)
to pgq_reader;
