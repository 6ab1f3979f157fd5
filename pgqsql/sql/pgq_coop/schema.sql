do $$
begin
    -- not "if not exists": that raises a notice on every later install
    if not exists (select 1 from pg_catalog.pg_namespace where nspname = 'pgq_coop') then
        create schema pgq_coop;
    end if;
end
$$;

comment on schema pgq_coop is 'cooperative consumers: several workers behind one consumer (skyd)';

-- The functions act on the tables of PgQ as the role that installs them. Beside
-- the C extension that role may be another one than the owner of those.
do $$
declare
    v_lacking text;
begin
    select pg_catalog.string_agg(pg_catalog.format('%s on %s %s', pg_catalog.lower(p.privilege), p.kind, p.name), ', ') into v_lacking
      from (values ('USAGE', 'sequence', 'pgq.batch_id_seq'), ('USAGE', 'sequence', 'pgq.consumer_co_id_seq'),
                   ('SELECT', 'table', 'pgq.subscription'), ('INSERT', 'table', 'pgq.subscription'), ('UPDATE', 'table', 'pgq.subscription'),
                   ('SELECT', 'table', 'pgq.consumer'), ('INSERT', 'table', 'pgq.consumer'), ('UPDATE', 'table', 'pgq.consumer'),
                   ('SELECT', 'table', 'pgq.queue'), ('SELECT', 'table', 'pgq.tick')) p (privilege, kind, name)
     where not case p.kind when 'sequence' then pg_catalog.has_sequence_privilege(p.name, p.privilege)
                           else pg_catalog.has_table_privilege(p.name, p.privilege) end;
    if v_lacking is not null then
        raise exception 'pgq_coop cannot work for role %, which lacks %', current_user, v_lacking
            using errcode = 'insufficient_privilege',
                  hint = 'As owner of schema pgq: grant it, and membership in pgq_admin; or leave pgq_coop out.';
    end if;
end
$$;
