do $$
begin
    if to_regclass('pgq_node.node_info') is null then
        raise exception 'there is no pgq_node in this database for skyd_node to add to';
    end if;
    if not exists (select 1 from pg_catalog.pg_namespace where nspname = 'skyd_node') then
        create schema skyd_node;
    end if;
end
$$;

comment on schema skyd_node is 'operations on cascaded queues: journals, terms, events that a root lost; beside pgq_node of any origin (skyd)';
