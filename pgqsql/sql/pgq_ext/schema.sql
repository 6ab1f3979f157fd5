-- A target database need not have PgQ itself, but its roles.
do $$
begin
    if not exists (select 1 from pg_catalog.pg_roles where rolname = 'pgq_reader') then
        create role pgq_reader;
    end if;
    if not exists (select 1 from pg_catalog.pg_roles where rolname = 'pgq_writer') then
        create role pgq_writer;
    end if;
    if not exists (select 1 from pg_catalog.pg_roles where rolname = 'pgq_admin') then
        create role pgq_admin in role pgq_reader, pgq_writer;
    end if;
end
$$;

do $$
begin
    -- not "if not exists": that raises a notice on every later install
    if not exists (select 1 from pg_catalog.pg_namespace where nspname = 'pgq_ext') then
        create schema pgq_ext;
    end if;
end
$$;

comment on schema pgq_ext is 'tracking of finished batches and events in a target database (skyd)';
