-- The schema and the three roles of the PgQ contract. Roles belong to the
-- whole server: an existing one is left exactly as it is.
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
    if not exists (select 1 from pg_catalog.pg_namespace where nspname = 'pgq') then
        create schema pgq;
    end if;
end
$$;

comment on schema pgq is 'PgQ: transactional event queues (skyd)';

do $$
begin
    if not exists (select 1 from pg_catalog.pg_namespace where nspname = 'skyd_gen') then
        create schema skyd_gen;
    end if;
end
$$;

comment on schema skyd_gen is 'code that skyd writes for the objects of this database; made anew at will';
