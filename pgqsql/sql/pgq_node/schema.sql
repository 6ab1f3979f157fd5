do $$
begin
    -- not "if not exists": that raises a notice on every later install
    if not exists (select 1 from pg_catalog.pg_namespace where nspname = 'pgq_node') then
        create schema pgq_node;
    end if;
end
$$;

comment on schema pgq_node is 'cascaded queues: nodes of a queue that is the same in several databases (skyd)';
