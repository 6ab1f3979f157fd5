-- Rights of what skyd adds to pgq_node.
grant usage on schema skyd_node to public;

do $$
declare
    v_func regprocedure;
begin
    for v_func in
        select p.oid from pg_catalog.pg_proc p where p.pronamespace = 'skyd_node'::regnamespace
    loop
        execute pg_catalog.format('revoke all on function %s from public, pgq_reader, pgq_writer, pgq_admin', v_func);
    end loop;
end
$$;

grant execute on function skyd_node.get_term(text) to public;
grant select on skyd_node.term, skyd_node.operation to public;
grant execute on function skyd_node.learn_term(text, bigint, text) to pgq_writer, pgq_admin;
grant execute on function
    skyd_node.claim_term(text, bigint, text), skyd_node.promote(text, bigint, bigint), skyd_node.drop_empty_ticks(text, bigint),
    skyd_node.digest(text, bigint, bigint), skyd_node.cut_events(text, bigint, bigint)
to pgq_admin;
grant update (root_node) on skyd_node.term to pgq_admin;
grant select, insert, update, delete on skyd_node.operation, skyd_node.lost_event to pgq_admin;
