-- Schemas of skyd for psql: skyd, pgq, pgq_coop, pgq_ext.
-- Generated from the files under pgqsql/sql; do not edit. It may be run again.
\set ON_ERROR_STOP on

begin;
set transaction isolation level read committed;
set local search_path = '';
set local client_min_messages = 'warning';
set local check_function_bodies = on;
set local standard_conforming_strings = on;
set local default_tablespace = '';

select pg_catalog.pg_advisory_xact_lock(1936423268);

do $skyd$
begin
    if pg_catalog.current_setting('server_version_num')::int4 < 140000 then
        raise exception 'the server runs PostgreSQL %; skyd needs 14 or newer',
            pg_catalog.current_setting('server_version');
    end if;
end
$skyd$;

-- Schema skyd

do $skyd$
declare
    v_recorded  boolean := false;
    v_state     record;
begin
    select * into v_state from (select s.name, n.oid is not null,
       coalesce(pg_catalog.pg_get_userbyid(n.nspowner)::text, ''),
       n.oid is not null and pg_catalog.pg_has_role(n.nspowner, 'USAGE'),
       coalesce((
           select e.extname || ' ' || e.extversion
           from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid
           where d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and d.deptype = 'e'
             and (d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.objid = n.oid
                  or d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                     and d.objid in (select p.oid from pg_catalog.pg_proc p where p.pronamespace = n.oid))
           limit 1), ''),
       exists (select 1 from pg_catalog.pg_class c where c.relnamespace = n.oid)
       or exists (select 1 from pg_catalog.pg_proc p where p.pronamespace = n.oid)
       or exists (select 1 from pg_catalog.pg_type t where t.typnamespace = n.oid),
       (select pg_catalog.count(*) = 4 from pg_catalog.pg_attribute a
        where (a.attrelid, a.attname) in (
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.queue'), 'queue_switch_step2'),
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.queue'), 'queue_data_pfx'),
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.subscription'), 'sub_last_tick'),
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.tick'), 'tick_snapshot')))
from pg_catalog.unnest('{skyd}'::text[]) as s (name)
left join pg_catalog.pg_namespace n on n.nspname = s.name) as s (name, present, role, mine, extension, filled, original);
    if v_state.extension <> '' then
        raise exception 'schema skyd belongs to extension %: leave it alone, skyd runs on it', v_state.extension;
    end if;
    if pg_catalog.to_regclass('skyd.schema_file') is not null then
        execute $$ select exists (select from skyd.schema_file where schema_name = 'skyd' and path = 'tables.sql') $$
        into v_recorded;
    end if;
    if v_state.filled and not v_recorded then
        raise exception 'schema skyd is there and is not from skyd; it belongs to role %', v_state.role;
    end if;
    perform pg_catalog.set_config('skyd.fresh_skyd', (not v_state.filled)::text, true);
end
$skyd$;

-- File skyd/schema.sql
create schema if not exists skyd;

comment on schema skyd is 'what skyd installed in this database';

-- File skyd/tables.sql
do $skyd$
declare
    v_fresh     boolean := pg_catalog.current_setting('skyd.fresh_skyd')::boolean;
    v_recorded  boolean := false;
begin
    if not v_fresh then
        v_recorded := exists (select from skyd.schema_file where schema_name = 'skyd' and path = 'tables.sql');
    end if;
    if v_fresh then
        execute $shape$
create table skyd.schema_file (
    schema_name     text        not null,
    path            text        not null,
    sha256          text        not null,
    skyd_version    text        not null,
    applied_at      timestamptz not null default now(),
    primary key (schema_name, path)
);

comment on table skyd.schema_file is 'SQL files applied in this database, with the hash of their content';

create table skyd.schema_function (
    schema_name     text        not null,
    signature       text        not null,
    path            text        not null,
    fingerprint     text        not null,
    primary key (schema_name, signature)
);

comment on table skyd.schema_function is 'functions as they stood in the catalog after their file was applied';
$shape$;
    end if;
end
$skyd$;

-- File skyd/grants.sql
grant usage on schema skyd to public;
grant select on skyd.schema_file, skyd.schema_function to public;

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('skyd', 'schema.sql', 'f6d5aad487707ec2ffb0a3e0a35e78ce7dc574691473318250922e7613b18edd', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('skyd', 'tables.sql', 'd7faec442273cdc08d6bfc76e8390c73eb1bcc6e4a6e48af86e041ca70c8bd77', 'bundle')
on conflict (schema_name, path) do nothing;

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('skyd', 'grants.sql', '6a0dbb70ebf076de199bd029d95d7ea24d7ca89838cc7c509d905d37e47da61f', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;

-- Schema pgq

do $skyd$
declare
    v_recorded  boolean := false;
    v_state     record;
begin
    select * into v_state from (select s.name, n.oid is not null,
       coalesce(pg_catalog.pg_get_userbyid(n.nspowner)::text, ''),
       n.oid is not null and pg_catalog.pg_has_role(n.nspowner, 'USAGE'),
       coalesce((
           select e.extname || ' ' || e.extversion
           from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid
           where d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and d.deptype = 'e'
             and (d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.objid = n.oid
                  or d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                     and d.objid in (select p.oid from pg_catalog.pg_proc p where p.pronamespace = n.oid))
           limit 1), ''),
       exists (select 1 from pg_catalog.pg_class c where c.relnamespace = n.oid)
       or exists (select 1 from pg_catalog.pg_proc p where p.pronamespace = n.oid)
       or exists (select 1 from pg_catalog.pg_type t where t.typnamespace = n.oid),
       (select pg_catalog.count(*) = 4 from pg_catalog.pg_attribute a
        where (a.attrelid, a.attname) in (
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.queue'), 'queue_switch_step2'),
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.queue'), 'queue_data_pfx'),
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.subscription'), 'sub_last_tick'),
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.tick'), 'tick_snapshot')))
from pg_catalog.unnest('{pgq}'::text[]) as s (name)
left join pg_catalog.pg_namespace n on n.nspname = s.name) as s (name, present, role, mine, extension, filled, original);
    if v_state.extension <> '' then
        raise exception 'schema pgq belongs to extension %: leave it alone, skyd runs on it', v_state.extension;
    end if;
    if pg_catalog.to_regclass('skyd.schema_file') is not null then
        execute $$ select exists (select from skyd.schema_file where schema_name = 'pgq' and path = 'tables.sql') $$
        into v_recorded;
    end if;
    if v_state.filled and not v_recorded then
        raise exception 'schema pgq is there and is not from skyd; it belongs to role %', v_state.role;
    end if;
    perform pg_catalog.set_config('skyd.fresh_pgq', (not v_state.filled)::text, true);
end
$skyd$;

-- File pgq/schema.sql
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
delete from skyd.schema_file where schema_name = 'pgq' and pg_catalog.current_setting('skyd.fresh_pgq')::boolean;
delete from skyd.schema_function where schema_name = 'pgq' and pg_catalog.current_setting('skyd.fresh_pgq')::boolean;

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'schema.sql', 'dbc7487069b0e1958f9c2909c46a53633a57e07d0daf219522d7b7b5c11ded53', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;

-- File pgq/tables.sql
do $skyd$
declare
    v_fresh     boolean := pg_catalog.current_setting('skyd.fresh_pgq')::boolean;
    v_recorded  boolean := false;
begin
    if not v_fresh then
        v_recorded := exists (select from skyd.schema_file where schema_name = 'pgq' and path = 'tables.sql');
    end if;
    if v_fresh then
        execute $shape$
-- Tables of the PgQ contract. Column names, types and order are fixed: clients
-- read these tables directly.

create table pgq.consumer (
    co_id   serial not null,
    co_name text   not null,

    constraint consumer_pkey primary key (co_id),
    constraint consumer_name_uq unique (co_name)
);
comment on table pgq.consumer is 'one row for each consumer name, over all queues';

create table pgq.queue (
    queue_id                 serial      not null,
    queue_name               text        not null,
    queue_ntables            integer     not null default 3,
    queue_cur_table          integer     not null default 0,
    queue_rotation_period    interval    not null default '2 hours',
    queue_switch_step1       bigint      not null default pg_catalog.txid_current(),
    queue_switch_step2       bigint               default pg_catalog.txid_current(),
    queue_switch_time        timestamptz not null default pg_catalog.now(),
    queue_external_ticker    boolean     not null default false,
    queue_disable_insert     boolean     not null default false,
    queue_ticker_paused      boolean     not null default false,
    queue_ticker_max_count   integer     not null default 500,
    queue_ticker_max_lag     interval    not null default '3 seconds',
    queue_ticker_idle_period interval    not null default '1 minute',
    queue_per_tx_limit       integer,
    queue_data_pfx           text        not null,
    queue_event_seq          text        not null,
    queue_tick_seq           text        not null,
    queue_extra_maint        text[],

    constraint queue_pkey primary key (queue_id),
    constraint queue_name_uq unique (queue_name)
);
comment on table pgq.queue is 'one row for each queue';
comment on column pgq.queue.queue_switch_step2 is 'txid of rotation step 2; null while a rotation is half done';
comment on column pgq.queue.queue_extra_maint is 'functions called in maintenance, each with the queue name';

create sequence pgq.batch_id_seq;
comment on sequence pgq.batch_id_seq is 'numbers of batches, one sequence for all queues';

create table pgq.tick (
    tick_queue     integer       not null,
    tick_id        bigint        not null,
    tick_time      timestamptz   not null default pg_catalog.now(),
    tick_snapshot  txid_snapshot not null default pg_catalog.txid_current_snapshot(),
    tick_event_seq bigint        not null,

    constraint tick_pkey primary key (tick_queue, tick_id),
    constraint tick_queue_fkey foreign key (tick_queue) references pgq.queue (queue_id)
);
comment on table pgq.tick is 'borders of batches: a snapshot of transactions for each tick';

create table pgq.subscription (
    sub_id        serial      not null,
    sub_queue     integer     not null,
    sub_consumer  integer     not null,
    sub_last_tick bigint,
    sub_active    timestamptz not null default pg_catalog.now(),
    sub_batch     bigint,
    sub_next_tick bigint,

    constraint subscription_pkey primary key (sub_queue, sub_consumer),
    constraint subscription_batch_idx unique (sub_batch),
    constraint sub_queue_fkey foreign key (sub_queue) references pgq.queue (queue_id),
    constraint sub_consumer_fkey foreign key (sub_consumer) references pgq.consumer (co_id)
);
comment on table pgq.subscription is 'one consumer on one queue: its position and its open batch';
comment on column pgq.subscription.sub_id is 'owner id of retry events; members of a cooperative group share it';

create table pgq.event_template (
    ev_id     bigint      not null,
    ev_time   timestamptz not null,
    ev_txid   bigint      not null default pg_catalog.txid_current(),
    ev_owner  integer,
    ev_retry  integer,
    ev_type   text,
    ev_data   text,
    ev_extra1 text,
    ev_extra2 text,
    ev_extra3 text,
    ev_extra4 text
);
comment on table pgq.event_template is 'parent of all event tables; do not query it in production, it locks every data table';

create table pgq.retry_queue (
    ev_retry_after timestamptz not null,
    ev_queue       integer     not null,
    ev_id          bigint      not null,
    ev_time        timestamptz not null,
    ev_txid        bigint,
    ev_owner       integer     not null,
    ev_retry       integer,
    ev_type        text,
    ev_data        text,
    ev_extra1      text,
    ev_extra2      text,
    ev_extra3      text,
    ev_extra4      text,

    constraint rq_pkey primary key (ev_owner, ev_id),
    constraint rq_queue_id_fkey foreign key (ev_queue) references pgq.queue (queue_id)
);
create index rq_retry_idx on pgq.retry_queue (ev_retry_after);
comment on table pgq.retry_queue is 'events that wait for redelivery to one consumer';
$shape$;
    end if;
end
$skyd$;

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'tables.sql', 'a557a16cce7b407902934bc8034228618e7c17fa14ecef8c6544d924f4034dc1', 'bundle')
on conflict (schema_name, path) do nothing;

-- File pgq/functions/version.sql
create or replace function pgq.version()
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.version(0)
    --
    --     Version of the PgQ contract that this schema keeps. Tickers read
    --     the first character only and serve the database when it is 3 to 9.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     text that starts with the contract's version, never null
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return '3.5-skyd';
end;
$$ language plpgsql immutable set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.version() is 'Version of the PgQ contract that this schema keeps.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/version.sql', '3958fd6af3480f4c904b92c9d601c6cfed90f7aacb5251319c627f780b8665ed', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/version.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/version.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'version' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/quote_fqname.sql
create or replace function pgq.quote_fqname(i_name text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.quote_fqname(1)
    --
    --     Quotes a table name for use in SQL. The text is split at the first
    --     dot; a name without a dot is taken to be in schema public.
    --
    -- Parameters:
    --     i_name - table name, schema.table or table, not quoted
    --
    -- Returns:
    --     both parts quoted where needed, with a dot between; null for null
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_dot integer := position('.' in i_name);
begin
    if v_dot = 0 then
        return 'public.' || quote_ident(i_name);
    end if;
    return quote_ident(substr(i_name, 1, v_dot - 1)) || '.' || quote_ident(substr(i_name, v_dot + 1));
end;
$$ language plpgsql immutable strict set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.quote_fqname(i_name text) is 'Quotes a table name for use in SQL.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/quote_fqname.sql', 'da9f967116402baaf79de35eb8821d2bb86175acc5cb65bd1cff8c0fba1c5578', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/quote_fqname.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/quote_fqname.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'quote_fqname' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/seq_getval.sql
create or replace function pgq.seq_getval(i_seq_name text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.seq_getval(1)
    --
    --     Reads last_value of a sequence without advancing it.
    --
    -- Parameters:
    --     i_seq_name - sequence name, split at the first dot; without a dot
    --                  the schema is public
    --
    -- Returns:
    --     last_value; null for a null name
    --
    -- Raises:
    --     sequence does not exist, or may not be read
    --
    -- Calls:
    --     pgq.quote_fqname(1)
    --
    -- Tables:
    --     read   - the sequence
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_value bigint;
begin
    execute 'select last_value from ' || pgq.quote_fqname(i_seq_name) into v_value;
    return v_value;
end;
$$ language plpgsql volatile strict set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.seq_getval(i_seq_name text) is 'Reads last_value of a sequence without advancing it.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/seq_getval.sql', '8d8a27b7533afffebd765c54d749a19c1f564af89a4f9c70bfd07c6dbaba6589', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/seq_getval.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/seq_getval.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'seq_getval' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/seq_setval.sql
create or replace function pgq.seq_setval(i_seq_name text, i_new_value int8)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.seq_setval(2)
    --
    --     Lifts a sequence to a value. Unlike setval it never goes backwards.
    --
    -- Parameters:
    --     i_seq_name  - sequence name, split at the first dot; without a dot
    --                   the schema is public
    --     i_new_value - value the sequence shall have at least
    --
    -- Returns:
    --     the resulting last_value; null when an argument is null
    --
    -- Raises:
    --     sequence does not exist, or may not be changed
    --
    -- Calls:
    --     pgq.quote_fqname(1), pgq.seq_getval(1)
    --
    -- Tables:
    --     update - the sequence
    --
    -- Locks:
    --     none; a session that takes values at the same moment is not held
    --     back, so use it only where nothing else advances the sequence
    -- ----------------------------------------------------------------
declare
    v_value bigint := pgq.seq_getval(i_seq_name);
begin
    if i_new_value > v_value then
        v_value := pg_catalog.setval(pgq.quote_fqname(i_seq_name)::regclass, i_new_value);
    end if;
    return v_value;
end;
$$ language plpgsql volatile strict set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.seq_setval(i_seq_name text, i_new_value int8) is 'Lifts a sequence to a value.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/seq_setval.sql', '58c7b469247c2b9973c5533ee53b00b76c9c8fac43ba3864e13315827e153229', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/seq_setval.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/seq_setval.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'seq_setval' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/upgrade_schema.sql
create or replace function pgq.upgrade_schema()
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.upgrade_schema(0)
    --
    --     Makes roles and columns that an older install does not have. Safe to
    --     repeat. Whole upgrades are done by the installer.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     number of changes made
    --
    -- Raises:
    --     caller may not create roles, or does not own the tables, and
    --     something is missing
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     access exclusive on pgq.queue when a column is missing
    -- ----------------------------------------------------------------
declare
    v_item  record;
    v_count integer := 0;
begin
    for v_item in
        select r.name, r.options
          from (values (1, 'pgq_reader', ''), (2, 'pgq_writer', ''),
                       (3, 'pgq_admin', ' in role pgq_reader, pgq_writer')) r (n, name, options)
         where not exists (select 1 from pg_roles p where p.rolname = r.name)
         order by r.n
    loop
        execute format('create role %I', v_item.name) || v_item.options;
        v_count := v_count + 1;
    end loop;
    for v_item in
        select c.name, c.type
          from (values ('queue_per_tx_limit', 'integer'), ('queue_extra_maint', 'text[]')) c (name, type)
         where not exists (
                   select 1 from pg_attribute a
                    where a.attrelid = 'pgq.queue'::regclass
                      and a.attname = c.name
                      and not a.attisdropped)
    loop
        execute format('alter table pgq.queue add column %I %s', v_item.name, v_item.type);
        v_count := v_count + 1;
    end loop;
    return v_count;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.upgrade_schema() is 'Makes roles and columns that an older install does not have.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/upgrade_schema.sql', '385a18ba2d7d5fd3371898ff1dd8ef9445d2d0041d2be02a2e47d3eddce9f18f', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/upgrade_schema.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/upgrade_schema.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'upgrade_schema' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/wakeup_channel.sql
create or replace function pgq.wakeup_channel(i_queue_name text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.wakeup_channel(1)
    --
    --     Name of the notification channel that gets a message, the tick id,
    --     with every tick of a queue. Channel names are limited to 63 bytes,
    --     so longer queue names are hashed.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     'pgq_' and the queue name, or its md5 when that is over 63 bytes;
    --     null for null
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    if octet_length(i_queue_name) <= 59 then
        return 'pgq_' || i_queue_name;
    end if;
    return 'pgq_' || md5(i_queue_name);
end;
$$ language plpgsql immutable strict set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.wakeup_channel(i_queue_name text) is 'Name of the notification channel that gets a message, the tick id, with every tick of a queue.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/wakeup_channel.sql', '34614b7bbdec375920fe8d1cbfe30b7a7bc068a8565ce09ce499d0e0a5dd8470', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/wakeup_channel.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/wakeup_channel.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'wakeup_channel' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/create_queue.sql
create or replace function pgq.create_queue(i_queue_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.create_queue(1)
    --
    --     Creates a queue: its row, two sequences, the data tables and the
    --     first tick. Consumers see events committed after that tick.
    --
    --     Security definer: an admin may create tables in schema pgq only
    --     through this function.
    --
    -- Parameters:
    --     i_queue_name - any text but null
    --
    -- Returns:
    --     1 - created
    --     0 - existed already
    --
    -- Raises:
    --     queue name is null
    --
    -- Calls:
    --     pgq.tune_storage(1), pgq.grant_perms(1)
    --
    -- Tables:
    --     insert - pgq.queue, pgq.tick
    --
    -- Locks:
    --     waits for another session that creates the same queue
    -- ----------------------------------------------------------------
declare
    v_id     integer;
    v_pfx    text;
    v_table  text;
    v_tables integer;
begin
    if i_queue_name is null then
        raise exception 'queue name is null' using errcode = 'null_value_not_allowed';
    end if;
    -- an existing queue must not cost a queue id
    perform 1 from pgq.queue q where q.queue_name = i_queue_name;
    if found then
        return 0;
    end if;
    v_id := nextval('pgq.queue_queue_id_seq');
    v_pfx := 'pgq.event_' || v_id;
    insert into pgq.queue (queue_id, queue_name, queue_data_pfx, queue_event_seq, queue_tick_seq)
    values (v_id, i_queue_name, v_pfx, v_pfx || '_id_seq', v_pfx || '_tick_seq')
    on conflict (queue_name) do nothing
    returning queue_ntables into v_tables;
    if not found then
        return 0;
    end if;

    execute format('create sequence pgq.event_%s_id_seq', v_id);
    execute format('create sequence pgq.event_%s_tick_seq', v_id);
    execute format('create table %s () inherits (pgq.event_template)', v_pfx);
    for i in 0 .. v_tables - 1 loop
        v_table := v_pfx || '_' || i;
        execute format('create table %s () inherits (%s)', v_table, v_pfx);
        execute format('alter table %s alter column ev_id set default nextval(%L)', v_table, v_pfx || '_id_seq');
        execute format('create index event_%s_%s_txid_idx on %s (ev_txid)', v_id, i, v_table);
    end loop;
    perform pgq.tune_storage(i_queue_name);
    perform pgq.grant_perms(i_queue_name);

    insert into pgq.tick (tick_queue, tick_id, tick_event_seq)
    values (v_id, nextval((v_pfx || '_tick_seq')::regclass), 0);
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.create_queue(i_queue_name text) is 'Creates a queue: its row, two sequences, the data tables and the first tick.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/create_queue.sql', 'd3726f0f7e962a4618c22a1a54f98bdd212f008a3397ba5ba250d77863bc3ff6', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/create_queue.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/create_queue.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'create_queue' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/drop_queue.sql
create or replace function pgq.drop_queue(x_queue_name text, x_force boolean)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.drop_queue(2)
    --
    --     Drops a queue with its events, ticks, tables and sequences.
    --
    --     Security definer: an admin does not own the tables.
    --
    -- Parameters:
    --     x_queue_name - queue name
    --     x_force      - true: unregister all consumers first, which drops
    --                    their open batches and retry events
    --
    -- Returns:
    --     1
    --
    -- Raises:
    --     queue not found; consumers exist and x_force is not true
    --
    -- Calls:
    --     pgq.unregister_consumer(2)
    --
    -- Tables:
    --     read   - pgq.subscription, pgq.consumer
    --     delete - pgq.retry_queue, pgq.tick, pgq.queue
    --
    -- Locks:
    --     the queue row, then access exclusive on its tables: waits for every
    --     transaction that uses them
    -- ----------------------------------------------------------------
declare
    v_queue    pgq.queue%rowtype;
    v_consumer text;
    v_count    integer;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = x_queue_name for update;
    if not found then
        raise exception 'queue not found: %', coalesce(x_queue_name, '<null>')
            using errcode = 'undefined_object';
    end if;
    if x_force then
        for v_consumer in
            select c.co_name
              from pgq.subscription s
              join pgq.consumer c on c.co_id = s.sub_consumer
             where s.sub_queue = v_queue.queue_id
        loop
            perform pgq.unregister_consumer(x_queue_name, v_consumer);
        end loop;
    else
        select count(*) into v_count from pgq.subscription s where s.sub_queue = v_queue.queue_id;
        if v_count > 0 then
            raise exception 'cannot drop queue %, it has % consumers', x_queue_name, v_count
                using errcode = 'dependent_objects_still_exist',
                      hint = 'Unregister them, or use pgq.drop_queue(name, true).';
        end if;
    end if;

    for i in 0 .. v_queue.queue_ntables - 1 loop
        execute format('drop table pgq.event_%s_%s', v_queue.queue_id, i);
    end loop;
    execute format('drop table pgq.event_%s', v_queue.queue_id);
    execute format('drop sequence %s, %s', v_queue.queue_event_seq::regclass, v_queue.queue_tick_seq::regclass);
    delete from pgq.retry_queue r where r.ev_queue = v_queue.queue_id;
    delete from pgq.tick t where t.tick_queue = v_queue.queue_id;
    delete from pgq.queue q where q.queue_id = v_queue.queue_id;
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.drop_queue(x_queue_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.drop_queue(1)
    --
    --     Drops a queue that has no consumers.
    --
    -- Parameters:
    --     x_queue_name - queue name
    --
    -- Returns:
    --     1, null for null
    --
    -- Raises:
    --     as pgq.drop_queue(2) without force
    --
    -- Calls:
    --     pgq.drop_queue(2)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.drop_queue(2)
    -- ----------------------------------------------------------------
begin
    return pgq.drop_queue(x_queue_name, false);
end;
$$ language plpgsql volatile strict set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.drop_queue(x_queue_name text, x_force boolean) is 'Drops a queue with its events, ticks, tables and sequences.';

comment on function pgq.drop_queue(x_queue_name text) is 'Drops a queue that has no consumers.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/drop_queue.sql', '9aa6e8e91659d0523fc4fe5937eda96e6dd956f0096d6bbf81020955539c9b3d', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/drop_queue.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/drop_queue.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'drop_queue' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/set_queue_config.sql
create or replace function pgq.set_queue_config(x_queue_name text, x_param_name text, x_param_value text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.set_queue_config(3)
    --
    --     Sets one parameter of a queue. The name is the column of pgq.queue
    --     without the prefix queue_.
    --
    -- Parameters:
    --     x_queue_name  - queue name
    --     x_param_name  - ticker_max_count, ticker_max_lag, ticker_idle_period,
    --                     ticker_paused, rotation_period or external_ticker
    --     x_param_value - value as text
    --
    -- Returns:
    --     1
    --
    -- Raises:
    --     queue or parameter name null; queue not found; unknown parameter;
    --     value does not fit the parameter's type
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     update - pgq.queue
    --
    -- Locks:
    --     the queue row
    -- ----------------------------------------------------------------
declare
    v_type text;
begin
    if x_queue_name is null or x_param_name is null then
        raise exception 'queue name or parameter name is null' using errcode = 'null_value_not_allowed';
    end if;
    perform 1 from pgq.queue q where q.queue_name = x_queue_name;
    if not found then
        raise exception 'queue not found: %', x_queue_name using errcode = 'undefined_object';
    end if;
    v_type := case x_param_name
        when 'ticker_max_count'   then 'integer'
        when 'ticker_max_lag'     then 'interval'
        when 'ticker_idle_period' then 'interval'
        when 'ticker_paused'      then 'boolean'
        when 'rotation_period'    then 'interval'
        when 'external_ticker'    then 'boolean'
    end;
    if v_type is null then
        raise exception 'unknown queue parameter: %', x_param_name
            using errcode = 'invalid_parameter_value',
                  hint = 'Known: ticker_max_count, ticker_max_lag, ticker_idle_period, ticker_paused, rotation_period, external_ticker.';
    end if;
    execute format('update pgq.queue set %I = $1::%s where queue_name = $2', 'queue_' || x_param_name, v_type)
    using x_param_value, x_queue_name;
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.set_queue_config(x_queue_name text, x_param_name text, x_param_value text) is 'Sets one parameter of a queue.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/set_queue_config.sql', 'ae2eb7c15322a9e28ec39eaf3458d89c9a5037bb907931bd6f67208e88bd7303', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/set_queue_config.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/set_queue_config.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'set_queue_config' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/grant_perms.sql
create or replace function pgq.grant_perms(x_queue_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.grant_perms(1)
    --
    --     Sets the rights on the tables and sequences of one queue again. The
    --     tables get the rights of pgq.event_template, so a right granted
    --     there reaches all queues.
    --
    --     Security definer: only the owner may grant.
    --
    -- Parameters:
    --     x_queue_name - queue name
    --
    -- Returns:
    --     1
    --
    -- Raises:
    --     queue not found
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_id    integer;
    v_ntab  integer;
    v_names text;
    v_right record;
begin
    select q.queue_id, q.queue_ntables into v_id, v_ntab
      from pgq.queue q
     where q.queue_name = x_queue_name;
    if not found then
        raise exception 'queue not found: %', coalesce(x_queue_name, '<null>')
            using errcode = 'undefined_object';
    end if;

    v_names := 'pgq.event_' || v_id;
    for i in 0 .. v_ntab - 1 loop
        v_names := v_names || ', pgq.event_' || v_id || '_' || i;
    end loop;
    execute format('revoke all on %s from public, pgq_reader, pgq_writer, pgq_admin', v_names);
    for v_right in
        select string_agg(distinct a.privilege_type, ', ') as rights,
               case when a.grantee = 0 then 'public' else a.grantee::regrole::text end as grantee
          from pg_class c
         cross join lateral aclexplode(c.relacl) a
         where c.oid = 'pgq.event_template'::regclass
           and a.grantee <> c.relowner
         group by a.grantee
    loop
        execute format('grant %s on %s to %s', v_right.rights, v_names, v_right.grantee);
    end loop;

    execute format('grant select on sequence pgq.event_%s_id_seq, pgq.event_%s_tick_seq to public', v_id, v_id);
    execute format('grant usage on sequence pgq.event_%s_id_seq to pgq_admin', v_id);
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.grant_perms(x_queue_name text) is 'Sets the rights on the tables and sequences of one queue again.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/grant_perms.sql', '18af66a540c55f492f3c294446f140925e54dba2b2129274caf2d0e45366b846', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/grant_perms.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/grant_perms.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'grant_perms' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/tune_storage.sql
create or replace function pgq.tune_storage(i_queue_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.tune_storage(1)
    --
    --     Sets the storage options of a queue's data tables. They are only
    --     filled and truncated, never updated: full pages, no autovacuum.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     1 - done
    --     0 - queue not found
    --     null for null
    --
    -- Raises:
    --     caller does not own the tables
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue
    --
    -- Locks:
    --     share update exclusive on the data tables
    -- ----------------------------------------------------------------
declare
    v_id     integer;
    v_tables integer;
begin
    select q.queue_id, q.queue_ntables into v_id, v_tables
      from pgq.queue q
     where q.queue_name = i_queue_name;
    if not found then
        return 0;
    end if;
    for i in 0 .. v_tables - 1 loop
        execute format('alter table pgq.event_%s_%s set (fillfactor = 100, autovacuum_enabled = off,'
                       ' toast.autovacuum_enabled = off)', v_id, i);
    end loop;
    return 1;
end;
$$ language plpgsql volatile strict set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.tune_storage(i_queue_name text) is 'Sets the storage options of a queue''s data tables.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/tune_storage.sql', '5310b9f98a4d7a30d307714750ba7fedc167235924e5c19cca9a2616a4fe0207', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/tune_storage.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/tune_storage.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'tune_storage' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/current_event_table.sql
create or replace function pgq.current_event_table(x_queue_name text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.current_event_table(1)
    --
    --     Data table that takes the inserts of a queue, for producers that
    --     write with INSERT or COPY themselves. The answer is valid within the
    --     current transaction only: the transaction's txid is taken before the
    --     table is read, which is what makes a rotation in between harmless.
    --
    -- Parameters:
    --     x_queue_name - queue name
    --
    -- Returns:
    --     table name pgq.event_<queue>_<table>
    --
    -- Raises:
    --     queue not found; queue closed for writing, unless
    --     session_replication_role is replica; 40001 when a repeatable read
    --     transaction is older than the last change of the queue
    --
    -- Calls:
    --     pgq._pin_queue(1)
    --
    -- Tables:
    --     read   - pgq.queue
    --
    -- Locks:
    --     none at read committed, else as pgq._pin_queue(1)
    -- ----------------------------------------------------------------
declare
    v_txid     bigint := txid_current();
    v_queue_id integer;
    v_slot     integer;
    v_closed   boolean;
begin
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        perform pgq._pin_queue(x_queue_name);
    end if;
    select q.queue_id, q.queue_cur_table, q.queue_disable_insert
      into v_queue_id, v_slot, v_closed
      from pgq.queue q
     where q.queue_name = x_queue_name;
    if not found then
        raise exception 'queue not found: %', coalesce(x_queue_name, '<null>')
            using errcode = 'undefined_object';
    end if;
    if v_closed and current_setting('session_replication_role') <> 'replica' then
        raise exception 'insert into queue disallowed: %', x_queue_name
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    return 'pgq.event_' || v_queue_id || '_' || v_slot;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.current_event_table(x_queue_name text) is 'Data table that takes the inserts of a queue, for producers that write with INSERT or COPY themselves.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/current_event_table.sql', 'c19a2a57dd8ba550e62744980316108edc3ac2c2ae2022e146d50284f5f5a895', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/current_event_table.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/current_event_table.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'current_event_table' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/insert_event.sql
create or replace function pgq.insert_event(queue_name text, ev_type text, ev_data text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.insert_event(3)
    --
    --     Inserts an event into a queue. It is delivered to every consumer
    --     after the surrounding transaction has committed.
    --
    -- Parameters:
    --     queue_name - queue name
    --     ev_type    - event type, free for the producer
    --     ev_data    - event data, free for the producer
    --
    -- Returns:
    --     event id
    --
    -- Raises:
    --     as pgq.insert_event(7)
    --
    -- Calls:
    --     pgq.insert_event(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_event(7)
    -- ----------------------------------------------------------------
begin
    return pgq.insert_event(queue_name, ev_type, ev_data, null, null, null, null);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.insert_event(
    queue_name text, ev_type text, ev_data text,
    ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.insert_event(7)
    --
    --     Inserts an event with all its free fields. The creation time is
    --     now(), the start of the transaction.
    --
    --     Security definer: producers have no rights on the event tables.
    --
    -- Parameters:
    --     queue_name - queue name
    --     ev_type    - event type, free for the producer
    --     ev_data    - event data, free for the producer
    --     ev_extra1  - free for the producer
    --     ev_extra2  - free for the producer
    --     ev_extra3  - free for the producer
    --     ev_extra4  - free for the producer
    --
    -- Returns:
    --     event id
    --
    -- Raises:
    --     as pgq.insert_event_raw(11)
    --
    -- Calls:
    --     pgq.insert_event_raw(11)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_event_raw(11)
    -- ----------------------------------------------------------------
begin
    return pgq.insert_event_raw(queue_name, null, null, null, null,
                                ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.insert_event(queue_name text, ev_type text, ev_data text) is 'Inserts an event into a queue.';

comment on function pgq.insert_event(queue_name text, ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text) is 'Inserts an event with all its free fields.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/insert_event.sql', '85a5a295c63117ae4377caed40af6fd48f87a6a07c7ac623ca97a1ed4639f442', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/insert_event.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/insert_event.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'insert_event' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/insert_event_raw.sql
create or replace function pgq.insert_event_raw(
    queue_name text, ev_id bigint, ev_time timestamptz, ev_owner integer, ev_retry integer,
    ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.insert_event_raw(11)
    --
    --     Inserts an event with full control over its columns. The event
    --     sequence advances by one also when ev_id is given: that is how the
    --     ticker learns of the event.
    --
    --     Order matters: own txid first, then the current table, then the id.
    --     A rotation that commits in between has a step 2 above our txid, so
    --     batches still look into the table written here.
    --
    -- Parameters:
    --     queue_name - queue name
    --     ev_id      - event id, null: next of the sequence
    --     ev_time    - creation time, null: now()
    --     ev_owner   - sub_id of the only subscription that gets it, null: all
    --     ev_retry   - number of redeliveries, null: first delivery
    --     ev_type    - free for the producer
    --     ev_data    - free for the producer
    --     ev_extra1  - free for the producer
    --     ev_extra2  - free for the producer
    --     ev_extra3  - free for the producer
    --     ev_extra4  - free for the producer
    --
    -- Returns:
    --     event id
    --
    -- Raises:
    --     queue not found; queue closed for writing, unless
    --     session_replication_role is replica; queue_per_tx_limit reached;
    --     40001 when a repeatable read transaction is older than the last
    --     change of the queue
    --
    -- Calls:
    --     pgq._pin_queue(1), pgq._check_tx_limit(3)
    --
    -- Tables:
    --     read   - pgq.queue
    --     insert - current data table of the queue
    --
    -- Locks:
    --     none at read committed, else as pgq._pin_queue(1)
    -- ----------------------------------------------------------------
declare
    v_txid  bigint := txid_current();
    v_queue pgq.queue%rowtype;
    v_next  bigint;
begin
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        perform pgq._pin_queue(insert_event_raw.queue_name);
    end if;
    select q.* into v_queue
      from pgq.queue q
     where q.queue_name = insert_event_raw.queue_name;
    if not found then
        raise exception 'queue not found: %', coalesce(insert_event_raw.queue_name, '<null>')
            using errcode = 'undefined_object';
    end if;
    if v_queue.queue_disable_insert and current_setting('session_replication_role') <> 'replica' then
        raise exception 'insert into queue disallowed: %', v_queue.queue_name
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if v_queue.queue_per_tx_limit is not null then
        perform pgq._check_tx_limit(v_queue.queue_id, v_queue.queue_per_tx_limit, v_txid);
    end if;

    v_next := nextval(v_queue.queue_event_seq::regclass);
    insert_event_raw.ev_id := coalesce(insert_event_raw.ev_id, v_next);
    execute format(
        'insert into pgq.event_%s_%s (ev_id, ev_time, ev_txid, ev_owner, ev_retry, ev_type, ev_data,'
        ' ev_extra1, ev_extra2, ev_extra3, ev_extra4) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)',
        v_queue.queue_id, v_queue.queue_cur_table)
    using insert_event_raw.ev_id, coalesce(insert_event_raw.ev_time, now()), v_txid,
          insert_event_raw.ev_owner, insert_event_raw.ev_retry,
          insert_event_raw.ev_type, insert_event_raw.ev_data, insert_event_raw.ev_extra1,
          insert_event_raw.ev_extra2, insert_event_raw.ev_extra3, insert_event_raw.ev_extra4;
    return insert_event_raw.ev_id;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.insert_event_raw(queue_name text, ev_id bigint, ev_time timestamptz, ev_owner integer, ev_retry integer, ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text) is 'Inserts an event with full control over its columns.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/insert_event_raw.sql', '656fe6920781150bbe12174b73f6061b88ae26726d825ec0ad54f39ec4cc7120', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/insert_event_raw.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/insert_event_raw.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'insert_event_raw' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/triggers/logutriga.sql
create or replace function pgq.logutriga()
returns trigger as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.logutriga(0)
    --
    --     Change capture trigger: writes each row change to a queue, the row
    --     url encoded.
    --
    --     The first trigger argument is the queue name; further ones are SKIP,
    --     ignore=, pkey=, backup, when=, ev_type= to ev_extra4= and deny. Runs
    --     with the rights of the user that changes the table, who needs
    --     pgq_writer.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     the row; null when SKIP prevents the change
    --
    -- Raises:
    --     as pgq._trigger_run(7); used for each statement on anything but
    --     truncate
    --
    -- Calls:
    --     pgq._trigger_run(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_event(7)
    -- ----------------------------------------------------------------
declare
    v_do boolean;
begin
    if tg_op = 'TRUNCATE' then
        perform pgq._trigger_run('logutriga', tg_relid, tg_op, tg_when, tg_argv, null::text, null::text);
        return null;
    end if;
    if tg_level <> 'ROW' and current_setting('session_replication_role') <> 'local' then
        raise exception 'trigger % on table %: use it for each row', tg_name, tg_relid::regclass
            using errcode = 'invalid_parameter_value';
    end if;
    case
        when tg_level <> 'ROW' then return null;
        when tg_op = 'INSERT' then
            v_do := pgq._trigger_run('logutriga', tg_relid, tg_op, tg_when, tg_argv, new, new);
        when tg_op = 'UPDATE' then
            v_do := pgq._trigger_run('logutriga', tg_relid, tg_op, tg_when, tg_argv, new, old);
        else
            v_do := pgq._trigger_run('logutriga', tg_relid, tg_op, tg_when, tg_argv, old, old);
            new := old;
    end case;
    if v_do then
        return new;
    end if;
    return null;
end;
$$ language plpgsql volatile;

comment on function pgq.logutriga() is 'Change capture trigger: writes each row change to a queue, the row url encoded.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'triggers/logutriga.sql', '858346aa0e6a4f63674fe472bc4acad2f5c3da7053d9072483a383466dd59f59', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'triggers/logutriga.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'triggers/logutriga.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'logutriga' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/triggers/sqltriga.sql
create or replace function pgq.sqltriga()
returns trigger as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.sqltriga(0)
    --
    --     Change capture trigger: writes each row change to a queue as part of
    --     an SQL statement, updates with the changed columns only.
    --
    --     The first trigger argument is the queue name; further ones are SKIP,
    --     ignore=, pkey=, backup, when=, ev_type= to ev_extra4= and deny. Runs
    --     with the rights of the user that changes the table, who needs
    --     pgq_writer.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     the row; null when SKIP prevents the change
    --
    -- Raises:
    --     as pgq._trigger_run(7); used for each statement on anything but
    --     truncate
    --
    -- Calls:
    --     pgq._trigger_run(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_event(7)
    -- ----------------------------------------------------------------
declare
    v_do boolean;
begin
    if tg_op = 'TRUNCATE' then
        perform pgq._trigger_run('sqltriga', tg_relid, tg_op, tg_when, tg_argv, null::text, null::text);
        return null;
    end if;
    if tg_level <> 'ROW' and current_setting('session_replication_role') <> 'local' then
        raise exception 'trigger % on table %: use it for each row', tg_name, tg_relid::regclass
            using errcode = 'invalid_parameter_value';
    end if;
    case
        when tg_level <> 'ROW' then return null;
        when tg_op = 'INSERT' then
            v_do := pgq._trigger_run('sqltriga', tg_relid, tg_op, tg_when, tg_argv, new, new);
        when tg_op = 'UPDATE' then
            v_do := pgq._trigger_run('sqltriga', tg_relid, tg_op, tg_when, tg_argv, new, old);
        else
            v_do := pgq._trigger_run('sqltriga', tg_relid, tg_op, tg_when, tg_argv, old, old);
            new := old;
    end case;
    if v_do then
        return new;
    end if;
    return null;
end;
$$ language plpgsql volatile;

comment on function pgq.sqltriga() is 'Change capture trigger: writes each row change to a queue as part of an SQL statement, updates with the changed columns only.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'triggers/sqltriga.sql', 'cf1eadcf9dcbd6c1e6a5f51fd2c3797192b836b1600e12164e2104a022ef8e60', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'triggers/sqltriga.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'triggers/sqltriga.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'sqltriga' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/triggers/jsontriga.sql
create or replace function pgq.jsontriga()
returns trigger as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.jsontriga(0)
    --
    --     Change capture trigger: writes each row change to a queue, the row
    --     as a JSON object.
    --
    --     The first trigger argument is the queue name; further ones are SKIP,
    --     ignore=, pkey=, backup, when=, ev_type= to ev_extra4= and deny. Runs
    --     with the rights of the user that changes the table, who needs
    --     pgq_writer.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     the row; null when SKIP prevents the change
    --
    -- Raises:
    --     as pgq._trigger_run(7); used for each statement on anything but
    --     truncate
    --
    -- Calls:
    --     pgq._trigger_run(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_event(7)
    -- ----------------------------------------------------------------
declare
    v_do boolean;
begin
    if tg_op = 'TRUNCATE' then
        perform pgq._trigger_run('jsontriga', tg_relid, tg_op, tg_when, tg_argv, null::text, null::text);
        return null;
    end if;
    if tg_level <> 'ROW' and current_setting('session_replication_role') <> 'local' then
        raise exception 'trigger % on table %: use it for each row', tg_name, tg_relid::regclass
            using errcode = 'invalid_parameter_value';
    end if;
    case
        when tg_level <> 'ROW' then return null;
        when tg_op = 'INSERT' then
            v_do := pgq._trigger_run('jsontriga', tg_relid, tg_op, tg_when, tg_argv, new, new);
        when tg_op = 'UPDATE' then
            v_do := pgq._trigger_run('jsontriga', tg_relid, tg_op, tg_when, tg_argv, new, old);
        else
            v_do := pgq._trigger_run('jsontriga', tg_relid, tg_op, tg_when, tg_argv, old, old);
            new := old;
    end case;
    if v_do then
        return new;
    end if;
    return null;
end;
$$ language plpgsql volatile;

comment on function pgq.jsontriga() is 'Change capture trigger: writes each row change to a queue, the row as a JSON object.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'triggers/jsontriga.sql', '5e1b2c9349d59bef3661bf4570b502877a28e423fc1cb6bfd6af6b641ba2c2a0', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'triggers/jsontriga.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'triggers/jsontriga.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'jsontriga' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/register_consumer.sql
create or replace function pgq.register_consumer(x_queue_name text, x_consumer_id text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.register_consumer(2)
    --
    --     Subscribes a consumer to a queue at the newest tick. It sees the
    --     events that become visible after that tick, so register consumers
    --     before producers start.
    --
    -- Parameters:
    --     x_queue_name  - queue name
    --     x_consumer_id - consumer name
    --
    -- Returns:
    --     1 - registered
    --     0 - was registered already; position and open batch are untouched
    --
    -- Raises:
    --     queue not found; queue has no tick
    --
    -- Calls:
    --     pgq.register_consumer_at(3)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.register_consumer_at(3)
    -- ----------------------------------------------------------------
begin
    return pgq.register_consumer_at(x_queue_name, x_consumer_id, null);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.register_consumer(x_queue_name text, x_consumer_id text) is 'Subscribes a consumer to a queue at the newest tick.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/register_consumer.sql', 'c965e22cd80503974c862ec07a52e0f34e47301139591bdff77d4515e83c147e', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/register_consumer.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/register_consumer.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'register_consumer' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/register_consumer_at.sql
create or replace function pgq.register_consumer_at(x_queue_name text, x_consumer_name text, x_tick_pos bigint)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.register_consumer_at(3)
    --
    --     Subscribes a consumer to a queue at a given tick, or moves an
    --     existing subscription there. Retry events survive the move.
    --
    --     The queue row is locked against rotation: otherwise a rotation that
    --     does not see the new subscription could remove its start tick.
    --
    -- Parameters:
    --     x_queue_name    - queue name
    --     x_consumer_name - consumer name
    --     x_tick_pos      - existing tick to start after; null: the newest one
    --                       for a new consumer, no move for a registered one
    --
    -- Returns:
    --     1 - registered
    --     0 - was registered already; with a tick its position is moved and
    --         its open batch dropped
    --
    -- Raises:
    --     queue not found; consumer name null; tick not found; queue has no
    --     tick
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue, pgq.tick
    --     insert - pgq.consumer, pgq.subscription
    --     update - pgq.subscription
    --
    -- Locks:
    --     share lock on the queue row, row locks on consumer and subscription;
    --     waits for a rotation and for a registration of the same name
    -- ----------------------------------------------------------------
declare
    v_queue    integer;
    v_consumer integer;
    v_tick     bigint;
begin
    select q.queue_id into v_queue from pgq.queue q where q.queue_name = x_queue_name for share;
    if not found then
        raise exception 'queue not found: %', coalesce(x_queue_name, '<null>')
            using errcode = 'undefined_object';
    end if;
    if x_tick_pos is not null then
        perform 1 from pgq.tick t where t.tick_queue = v_queue and t.tick_id = x_tick_pos;
        if not found then
            raise exception 'tick not found: queue %, tick %', x_queue_name, x_tick_pos
                using errcode = 'undefined_object';
        end if;
    end if;

    -- the name may be removed between our insert and our lock: try again
    loop
        insert into pgq.consumer (co_name) values (x_consumer_name) on conflict (co_name) do nothing;
        select c.co_id into v_consumer
          from pgq.consumer c
         where c.co_name = x_consumer_name
           for no key update;
        exit when found;
    end loop;

    perform 1
       from pgq.subscription s
      where s.sub_queue = v_queue and s.sub_consumer = v_consumer
        for no key update;
    if found then
        if x_tick_pos is not null then
            update pgq.subscription s
               set sub_last_tick = x_tick_pos,
                   sub_batch = null,
                   sub_next_tick = null,
                   sub_active = now()
             where s.sub_queue = v_queue and s.sub_consumer = v_consumer;
        end if;
        return 0;
    end if;

    v_tick := coalesce(x_tick_pos, (
        select t.tick_id from pgq.tick t where t.tick_queue = v_queue order by t.tick_id desc limit 1));
    if v_tick is null then
        raise exception 'queue % has no tick to start from', x_queue_name
            using errcode = 'object_not_in_prerequisite_state', hint = 'Run its ticker first.';
    end if;
    insert into pgq.subscription (sub_queue, sub_consumer, sub_last_tick)
    values (v_queue, v_consumer, v_tick);
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.register_consumer_at(x_queue_name text, x_consumer_name text, x_tick_pos bigint) is 'Subscribes a consumer to a queue at a given tick, or moves an existing subscription there.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/register_consumer_at.sql', '519b14f9ad186f6c8cf291600d716a9635dcc5d6c435005b5dcab7651dc393b8', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/register_consumer_at.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/register_consumer_at.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'register_consumer_at' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/unregister_consumer.sql
create or replace function pgq.unregister_consumer(x_queue_name text, x_consumer_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.unregister_consumer(2)
    --
    --     Ends a subscription. Its open batch vanishes, its retry events are
    --     deleted. The main consumer of a cooperative group takes all members
    --     with it; a member leaves alone and the group keeps its retry events.
    --
    -- Parameters:
    --     x_queue_name    - queue name
    --     x_consumer_name - consumer name
    --
    -- Returns:
    --     number of subscriptions removed, 0 when there was none
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq._is_group_member(2)
    --
    -- Tables:
    --     read   - pgq.queue
    --     delete - pgq.subscription, pgq.retry_queue, pgq.consumer
    --
    -- Locks:
    --     row locks on the consumers and subscriptions removed
    -- ----------------------------------------------------------------
declare
    v_queue     integer;
    v_sub       integer;
    v_main      integer;
    v_consumers integer[];
begin
    select s.sub_queue, s.sub_id, s.sub_consumer
      into v_queue, v_sub, v_main
      from pgq.queue q
      join pgq.subscription s on s.sub_queue = q.queue_id
      join pgq.consumer c on c.co_id = s.sub_consumer
     where q.queue_name = x_queue_name
       and c.co_name = x_consumer_name
       for update of c, s;
    if not found then
        return 0;
    end if;

    if pgq._is_group_member(v_queue, v_main) then
        v_consumers := array[v_main];
    else
        delete from pgq.retry_queue r where r.ev_queue = v_queue and r.ev_owner = v_sub;
        select array_agg(s.sub_consumer) into v_consumers
          from pgq.subscription s
         where s.sub_queue = v_queue and s.sub_id = v_sub;
        perform 1 from pgq.consumer c where c.co_id = any (v_consumers) order by c.co_id for update;
    end if;

    delete from pgq.subscription s where s.sub_queue = v_queue and s.sub_consumer = any (v_consumers);
    -- names are locked by now, so no other queue can start to use them
    delete from pgq.consumer c
     where c.co_id = any (v_consumers)
       and not exists (select 1 from pgq.subscription s where s.sub_consumer = c.co_id);
    return cardinality(v_consumers);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.unregister_consumer(x_queue_name text, x_consumer_name text) is 'Ends a subscription.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/unregister_consumer.sql', '78fa0e1177c70a9392104963b956f3f6737a56027b028e51b65c0f2965f980b6', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/unregister_consumer.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/unregister_consumer.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'unregister_consumer' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/next_batch.sql
create or replace function pgq.next_batch(i_queue_name text, i_consumer_name text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.next_batch(2)
    --
    --     Opens the consumer's next batch of events, from its last tick to the
    --     next one. Until it is finished every call gives the same batch.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - consumer name
    --
    -- Returns:
    --     batch id, or null when there is no new tick yet
    --
    -- Raises:
    --     as pgq.next_batch_custom(5)
    --
    -- Calls:
    --     pgq.next_batch_custom(5)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.next_batch_custom(5)
    -- ----------------------------------------------------------------
begin
    return (select b.batch_id
              from pgq.next_batch_custom(i_queue_name, i_consumer_name, null, null, null) b);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.next_batch(i_queue_name text, i_consumer_name text) is 'Opens the consumer''s next batch of events, from its last tick to the next one.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/next_batch.sql', 'f0fb64560660303243f704a866ff8fb1f922e765731f5378f25bfd064c59d5d8', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/next_batch.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/next_batch.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'next_batch' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/next_batch_info.sql
create or replace function pgq.next_batch_info(
    in i_queue_name text, in i_consumer_name text,
    out batch_id int8, out cur_tick_id int8, out prev_tick_id int8,
    out cur_tick_time timestamptz, out prev_tick_time timestamptz,
    out cur_tick_event_seq int8, out prev_tick_event_seq int8)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.next_batch_info(2)
    --
    --     Opens the consumer's next batch, like pgq.next_batch, and tells its
    --     borders.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - consumer name
    --
    -- Returns:
    --     batch_id, end tick (cur_*) and start tick (prev_*) with time and
    --     event counter; all null when there is no new tick yet
    --
    -- Raises:
    --     as pgq.next_batch_custom(5)
    --
    -- Calls:
    --     pgq.next_batch_custom(5)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.next_batch_custom(5)
    -- ----------------------------------------------------------------
begin
    select b.* into batch_id, cur_tick_id, prev_tick_id, cur_tick_time, prev_tick_time,
                    cur_tick_event_seq, prev_tick_event_seq
      from pgq.next_batch_custom(i_queue_name, i_consumer_name, null, null, null) b;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.next_batch_info(in i_queue_name text, in i_consumer_name text, out batch_id int8, out cur_tick_id int8, out prev_tick_id int8, out cur_tick_time timestamptz, out prev_tick_time timestamptz, out cur_tick_event_seq int8, out prev_tick_event_seq int8) is 'Opens the consumer''s next batch, like pgq.next_batch, and tells its borders.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/next_batch_info.sql', '4436ef615fc13d4c97392bde968c1c3992d44ff161b9a2cf4389aaa9225320cd', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/next_batch_info.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/next_batch_info.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'next_batch_info' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/next_batch_custom.sql
create or replace function pgq.next_batch_custom(
    in i_queue_name text, in i_consumer_name text,
    in i_min_lag interval, in i_min_count int4, in i_min_interval interval,
    out batch_id int8, out cur_tick_id int8, out prev_tick_id int8,
    out cur_tick_time timestamptz, out prev_tick_time timestamptz,
    out cur_tick_event_seq int8, out prev_tick_event_seq int8)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.next_batch_custom(5)
    --
    --     Opens the consumer's next batch with wishes for its size. A batch
    --     that is open already is returned as it is, whatever the wishes.
    --
    --     A call that finds nothing writes nothing. Before a batch is opened
    --     the subscription is locked and read again: of two sessions that ask
    --     at once both get the same batch.
    --
    --     Security definer: consumers have no right to write the subscription.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - consumer name
    --     i_min_lag       - the end tick must be at least this old
    --     i_min_count     - events wanted at least, by the event counter
    --     i_min_interval  - time the batch shall span at least
    --
    -- Returns:
    --     batch_id, end tick (cur_*) and start tick (prev_*) with time and
    --     event counter; all null when no batch fits yet
    --
    -- Raises:
    --     consumer not registered on the queue; its position tick is gone; the
    --     consumer is a cooperative group, whose batches go to its members
    --
    -- Calls:
    --     pgq.find_tick_helper(6)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer, pgq.tick
    --     update - pgq.subscription
    --
    -- Locks:
    --     the subscription row, when a batch is opened; waits for another
    --     session of the same consumer
    -- ----------------------------------------------------------------
declare
    v_sub  pgq.subscription%rowtype;
    v_pos  bigint;
    v_prev pgq.tick%rowtype;
    v_next record;
begin
    select s.* into v_sub
      from pgq.queue q
      join pgq.subscription s on s.sub_queue = q.queue_id
      join pgq.consumer c on c.co_id = s.sub_consumer
     where q.queue_name = i_queue_name
       and c.co_name = i_consumer_name;
    if not found then
        raise exception 'consumer % is not registered on queue %',
                coalesce(i_consumer_name, '<null>'), coalesce(i_queue_name, '<null>')
            using errcode = 'undefined_object';
    end if;

    while v_sub.sub_batch is null loop
        v_pos := v_sub.sub_last_tick;
        select t.* into v_prev
          from pgq.tick t
         where t.tick_queue = v_sub.sub_queue and t.tick_id = v_pos;
        if not found then
            raise exception 'position of consumer % on queue % is gone: tick %',
                    i_consumer_name, i_queue_name, coalesce(v_pos::text, '<null>')
                using errcode = 'object_not_in_prerequisite_state',
                      hint = 'Move it to an existing tick with pgq.register_consumer_at.';
        end if;
        if i_min_count is null and i_min_interval is null then
            select t.tick_id as next_tick_id, t.tick_time as next_tick_time into v_next
              from pgq.tick t
             where t.tick_queue = v_sub.sub_queue and t.tick_id > v_pos
             order by t.tick_id
             limit 1;
        else
            select f.next_tick_id, f.next_tick_time into v_next
              from pgq.find_tick_helper(v_sub.sub_queue, v_pos, v_prev.tick_time, v_prev.tick_event_seq,
                                        i_min_count, i_min_interval) f;
        end if;
        if v_next.next_tick_id is null or now() - v_next.next_tick_time < i_min_lag then
            return;
        end if;

        select s.* into v_sub
          from pgq.subscription s
         where s.sub_queue = v_sub.sub_queue and s.sub_consumer = v_sub.sub_consumer
           for no key update;
        if not found then
            raise exception 'consumer % was unregistered from queue %', i_consumer_name, i_queue_name
                using errcode = 'undefined_object';
        end if;
        if exists (select 1 from pgq.subscription o
                    where o.sub_queue = v_sub.sub_queue
                      and o.sub_id = v_sub.sub_id
                      and o.sub_consumer <> v_sub.sub_consumer) then
            raise exception 'consumer % on queue % is a cooperative group', i_consumer_name, i_queue_name
                using errcode = 'object_in_use', hint = 'Its batches go to its members: pgq_coop.next_batch.';
        end if;
        if v_sub.sub_batch is null and v_sub.sub_last_tick = v_pos then
            update pgq.subscription s
               set sub_batch = nextval('pgq.batch_id_seq'),
                   sub_next_tick = v_next.next_tick_id,
                   sub_active = now()
             where s.sub_queue = v_sub.sub_queue and s.sub_consumer = v_sub.sub_consumer
            returning s.* into v_sub;
        end if;
    end loop;

    select v_sub.sub_batch, cur.tick_id, prev.tick_id, cur.tick_time, prev.tick_time,
           cur.tick_event_seq, prev.tick_event_seq
      into batch_id, cur_tick_id, prev_tick_id, cur_tick_time, prev_tick_time,
           cur_tick_event_seq, prev_tick_event_seq
      from pgq.tick cur, pgq.tick prev
     where cur.tick_queue = v_sub.sub_queue and cur.tick_id = v_sub.sub_next_tick
       and prev.tick_queue = v_sub.sub_queue and prev.tick_id = v_sub.sub_last_tick;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.next_batch_custom(in i_queue_name text, in i_consumer_name text, in i_min_lag interval, in i_min_count int4, in i_min_interval interval, out batch_id int8, out cur_tick_id int8, out prev_tick_id int8, out cur_tick_time timestamptz, out prev_tick_time timestamptz, out cur_tick_event_seq int8, out prev_tick_event_seq int8) is 'Opens the consumer''s next batch with wishes for its size.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/next_batch_custom.sql', '7e8fbe3936d4887a0e3232b5eaed6ae25cba15d4b368a624c238792688d516e2', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/next_batch_custom.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/next_batch_custom.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'next_batch_custom' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/find_tick_helper.sql
create or replace function pgq.find_tick_helper(
    in i_queue_id int4, in i_prev_tick_id int8, in i_prev_tick_time timestamptz, in i_prev_tick_seq int8,
    in i_min_count int8, in i_min_interval interval,
    out next_tick_id int8, out next_tick_time timestamptz, out next_tick_seq int8)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.find_tick_helper(6)
    --
    --     Chooses the end tick of a batch that shall reach a size. The newest
    --     tick qualifies when count or interval is reached. When it is more
    --     than twice beyond a given wish, the first tick that reaches either
    --     wish is taken instead.
    --
    -- Parameters:
    --     i_queue_id       - queue
    --     i_prev_tick_id   - start tick of the batch
    --     i_prev_tick_time - its time
    --     i_prev_tick_seq  - its event counter
    --     i_min_count      - counter difference wanted, null: no wish
    --     i_min_interval   - time difference wanted, null: no wish
    --
    -- Returns:
    --     next_tick_id, next_tick_time, next_tick_seq of the end tick; all
    --     null when no tick reaches a wish
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_newest pgq.tick%rowtype;
    v_count  bigint;
    v_time   interval;
begin
    select t.* into v_newest
      from pgq.tick t
     where t.tick_queue = i_queue_id
       and t.tick_id > i_prev_tick_id
     order by t.tick_id desc
     limit 1;
    if not found then
        return;
    end if;
    v_count := v_newest.tick_event_seq - i_prev_tick_seq;
    v_time := v_newest.tick_time - i_prev_tick_time;
    if not (coalesce(v_count >= i_min_count, false) or coalesce(v_time >= i_min_interval, false)) then
        return;
    end if;
    if v_count > 2 * i_min_count or v_time > 2 * i_min_interval then
        select t.* into v_newest
          from pgq.tick t
         where t.tick_queue = i_queue_id
           and t.tick_id > i_prev_tick_id
           and (t.tick_event_seq - i_prev_tick_seq >= i_min_count
                or t.tick_time - i_prev_tick_time >= i_min_interval)
         order by t.tick_id
         limit 1;
    end if;
    next_tick_id := v_newest.tick_id;
    next_tick_time := v_newest.tick_time;
    next_tick_seq := v_newest.tick_event_seq;
end;
$$ language plpgsql stable set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.find_tick_helper(in i_queue_id int4, in i_prev_tick_id int8, in i_prev_tick_time timestamptz, in i_prev_tick_seq int8, in i_min_count int8, in i_min_interval interval, out next_tick_id int8, out next_tick_time timestamptz, out next_tick_seq int8) is 'Chooses the end tick of a batch that shall reach a size.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/find_tick_helper.sql', 'cba974737a274f159b3656080f058a9f1b5eeef3a162fa049a2bec6ada8343b2', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/find_tick_helper.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/find_tick_helper.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'find_tick_helper' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/get_batch_events.sql
create or replace function pgq.get_batch_events(
    in x_batch_id bigint,
    out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry int4,
    out ev_type text, out ev_data text,
    out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_batch_events(1)
    --
    --     All events of an open batch in the order of ev_id, as often as
    --     wanted. The whole batch is held in memory or temporary files; for
    --     big batches use pgq.get_batch_cursor.
    --
    -- Parameters:
    --     x_batch_id - open batch
    --
    -- Returns:
    --     rows of ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data,
    --     ev_extra1 to ev_extra4
    --
    -- Raises:
    --     batch not open
    --
    -- Calls:
    --     pgq.batch_event_sql(1)
    --
    -- Tables:
    --     read   - data tables of the queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query execute pgq.batch_event_sql(x_batch_id);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.get_batch_events(in x_batch_id bigint, out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry int4, out ev_type text, out ev_data text, out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text) is 'All events of an open batch in the order of ev_id, as often as wanted.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/get_batch_events.sql', '120226a422aca930dada9f10b2fc28fab598e749359e6c90728e929cf1e82389', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/get_batch_events.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/get_batch_events.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'get_batch_events' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/get_batch_cursor.sql
create or replace function pgq.get_batch_cursor(
    in i_batch_id bigint, in i_cursor_name text, in i_quick_limit int4, in i_extra_where text,
    out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry int4,
    out ev_type text, out ev_data text,
    out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_batch_cursor(4)
    --
    --     Declares a cursor over the events of an open batch in the order of
    --     ev_id and returns the first ones. The rest is read with plain FETCH;
    --     the cursor lives until it is closed or the transaction ends.
    --
    --     The filter is SQL text and runs with the rights and the search_path of
    --     the caller: never make it from input of users.
    --
    -- Parameters:
    --     i_batch_id    - open batch
    --     i_cursor_name - name of the cursor, quoted as an identifier
    --     i_quick_limit - rows to return at once; 0 or less: only declare
    --     i_extra_where - SQL condition over the ten columns, null: no filter
    --
    -- Returns:
    --     rows as pgq.get_batch_events; none and no cursor when batch, name or
    --     limit is null
    --
    -- Raises:
    --     batch not open; cursor exists; error in the filter
    --
    -- Calls:
    --     pgq.batch_event_sql(1)
    --
    -- Tables:
    --     read   - data tables of the queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_sql text;
begin
    if i_batch_id is null or i_cursor_name is null or i_quick_limit is null then
        return;
    end if;
    v_sql := pgq.batch_event_sql(i_batch_id);
    if i_extra_where is not null then
        v_sql := 'select * from (' || v_sql || ') ev where (' || i_extra_where || ') order by 1';
    end if;
    execute pg_catalog.format('declare %I no scroll cursor for ', i_cursor_name) || v_sql;
    if i_quick_limit > 0 then
        return query execute pg_catalog.format('fetch %s from %I', i_quick_limit, i_cursor_name);
    end if;
end;
$$ language plpgsql volatile;

create or replace function pgq.get_batch_cursor(
    in i_batch_id bigint, in i_cursor_name text, in i_quick_limit int4,
    out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry int4,
    out ev_type text, out ev_data text,
    out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_batch_cursor(3)
    --
    --     As pgq.get_batch_cursor(4), without a filter.
    --
    -- Parameters:
    --     i_batch_id    - open batch
    --     i_cursor_name - name of the cursor, quoted as an identifier
    --     i_quick_limit - rows to return at once; 0 or less: only declare
    --
    -- Returns:
    --     rows as pgq.get_batch_events; none when an argument is null
    --
    -- Raises:
    --     batch not open; cursor exists
    --
    -- Calls:
    --     pgq.get_batch_cursor(4)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query select b.* from pgq.get_batch_cursor(i_batch_id, i_cursor_name, i_quick_limit, null) b;
end;
$$ language plpgsql volatile strict;

comment on function pgq.get_batch_cursor(in i_batch_id bigint, in i_cursor_name text, in i_quick_limit int4, in i_extra_where text, out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry int4, out ev_type text, out ev_data text, out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text) is 'Declares a cursor over the events of an open batch in the order of ev_id and returns the first ones.';

comment on function pgq.get_batch_cursor(in i_batch_id bigint, in i_cursor_name text, in i_quick_limit int4, out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry int4, out ev_type text, out ev_data text, out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text) is 'As pgq.get_batch_cursor(4), without a filter.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/get_batch_cursor.sql', '2cedd9272e8010b32ceca6cfff03d12c80bf9d7fc87ed055ab1028e00455b4c7', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/get_batch_cursor.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/get_batch_cursor.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'get_batch_cursor' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/get_batch_info.sql
create or replace function pgq.get_batch_info(
    in x_batch_id bigint,
    out queue_name text, out consumer_name text,
    out batch_start timestamptz, out batch_end timestamptz,
    out prev_tick_id bigint, out tick_id bigint, out lag interval,
    out seq_start bigint, out seq_end bigint)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_batch_info(1)
    --
    --     Borders of an open batch and whose it is.
    --
    -- Parameters:
    --     x_batch_id - batch
    --
    -- Returns:
    --     one row: queue_name, consumer_name, batch_start and batch_end (tick
    --     times), prev_tick_id, tick_id, lag (age of the end tick), seq_start,
    --     seq_end (event counters); all null when the batch is not open
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.subscription, pgq.queue, pgq.consumer, pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    select q.queue_name, c.co_name, prev.tick_time, cur.tick_time, prev.tick_id, cur.tick_id,
           now() - cur.tick_time, prev.tick_event_seq, cur.tick_event_seq
      into queue_name, consumer_name, batch_start, batch_end, prev_tick_id, tick_id,
           lag, seq_start, seq_end
      from pgq.subscription s
      join pgq.queue q on q.queue_id = s.sub_queue
      join pgq.consumer c on c.co_id = s.sub_consumer
      join pgq.tick prev on prev.tick_queue = s.sub_queue and prev.tick_id = s.sub_last_tick
      join pgq.tick cur on cur.tick_queue = s.sub_queue and cur.tick_id = s.sub_next_tick
     where s.sub_batch = x_batch_id;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.get_batch_info(in x_batch_id bigint, out queue_name text, out consumer_name text, out batch_start timestamptz, out batch_end timestamptz, out prev_tick_id bigint, out tick_id bigint, out lag interval, out seq_start bigint, out seq_end bigint) is 'Borders of an open batch and whose it is.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/get_batch_info.sql', '14f44aae06841c41ff8c42defca39cb6af343dab2454b78c5ce4fe9537c0d018', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/get_batch_info.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/get_batch_info.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'get_batch_info' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/batch_event_sql.sql
create or replace function pgq.batch_event_sql(x_batch_id bigint)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.batch_event_sql(1)
    --
    --     Text of the query that gives the events of a batch: those whose
    --     transaction is not visible in the snapshot of the start tick and is
    --     visible in the snapshot of the end tick.
    --
    --     Most of them lie in one range of txids. Transactions that were open
    --     at the start tick and have ended since are looked up one by one,
    --     unless they are so near that the range is extended over them.
    --
    -- Parameters:
    --     x_batch_id - open batch
    --
    -- Returns:
    --     SELECT of the ten event columns in the order of ev_id
    --
    -- Raises:
    --     batch not open
    --
    -- Calls:
    --     pgq.batch_event_tables(1)
    --
    -- Tables:
    --     read   - pgq.subscription, pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_batch record;
    v_first bigint;     -- start of the range
    v_old   bigint[];   -- transactions below the range
    v_where text;
    v_table text;
    v_parts text[] := '{}';
begin
    select s.sub_id, prev.tick_snapshot as s1, cur.tick_snapshot as s2,
           txid_snapshot_xmax(prev.tick_snapshot) as xmax1,
           txid_snapshot_xmax(cur.tick_snapshot) as xmax2
      into v_batch
      from pgq.subscription s
      join pgq.tick prev on prev.tick_queue = s.sub_queue and prev.tick_id = s.sub_last_tick
      join pgq.tick cur on cur.tick_queue = s.sub_queue and cur.tick_id = s.sub_next_tick
     where s.sub_batch = x_batch_id;
    if not found then
        raise exception 'batch not found: %', coalesce(x_batch_id::text, '<null>')
            using errcode = 'undefined_object';
    end if;

    select coalesce(min(x) filter (where x >= v_batch.xmax1 - 100), v_batch.xmax1),
           array_agg(x order by x) filter (where x < v_batch.xmax1 - 100)
      into v_first, v_old
      from txid_snapshot_xip(v_batch.s1) x
     where txid_visible_in_snapshot(x, v_batch.s2);

    v_where := format('not pg_catalog.txid_visible_in_snapshot(ev_txid, %L::pg_catalog.txid_snapshot)'
                      ' and pg_catalog.txid_visible_in_snapshot(ev_txid, %L::pg_catalog.txid_snapshot)'
                      ' and (ev_owner is null or ev_owner = %s)',
                      v_batch.s1, v_batch.s2, v_batch.sub_id);
    for v_table in select pgq.batch_event_tables(x_batch_id) loop
        v_parts := v_parts || format(
            'select ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4'
            ' from %s where ev_txid >= %s and ev_txid < %s and %s',
            v_table, v_first, v_batch.xmax2, v_where);
        if v_old is not null then
            v_parts := v_parts || format(
                'select ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4'
                ' from %s where ev_txid = any (%L::bigint[]) and %s',
                v_table, v_old, v_where);
        end if;
    end loop;
    return array_to_string(v_parts, ' union all ') || ' order by 1';
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.batch_event_sql(x_batch_id bigint) is 'Text of the query that gives the events of a batch: those whose transaction is not visible in the snapshot of the start tick and is visible in the snapshot of the end tick.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/batch_event_sql.sql', 'ba63687ef25ad9729edd347c352c3fe526cc190ee57cae8660617bd57d3a7a0b', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/batch_event_sql.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/batch_event_sql.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'batch_event_sql' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/batch_event_tables.sql
create or replace function pgq.batch_event_tables(x_batch_id bigint)
returns setof text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.batch_event_tables(1)
    --
    --     Data tables that may hold events of a batch: the previous one when
    --     the batch reaches below the last rotation (step 2 is above every
    --     transaction that wrote there), the current one when it reaches above
    --     (a transaction that wrote there and is visible at the batch's end
    --     committed after step 1).
    --
    -- Parameters:
    --     x_batch_id - open batch
    --
    -- Returns:
    --     table names, one or two
    --
    -- Raises:
    --     batch not open
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.subscription, pgq.queue, pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_batch    record;
    v_previous boolean;
begin
    select q.queue_id, q.queue_cur_table, q.queue_ntables, q.queue_switch_step1, q.queue_switch_step2,
           txid_snapshot_xmin(prev.tick_snapshot) as first_txid,
           txid_snapshot_xmax(cur.tick_snapshot) as last_txid
      into v_batch
      from pgq.subscription s
      join pgq.queue q on q.queue_id = s.sub_queue
      join pgq.tick prev on prev.tick_queue = s.sub_queue and prev.tick_id = s.sub_last_tick
      join pgq.tick cur on cur.tick_queue = s.sub_queue and cur.tick_id = s.sub_next_tick
     where s.sub_batch = x_batch_id;
    if not found then
        raise exception 'batch not found: %', coalesce(x_batch_id::text, '<null>')
            using errcode = 'undefined_object';
    end if;
    v_previous := v_batch.queue_switch_step2 is null or v_batch.first_txid <= v_batch.queue_switch_step2;
    if v_previous then
        return next format('pgq.event_%s_%s', v_batch.queue_id,
            (v_batch.queue_cur_table - 1 + v_batch.queue_ntables) % v_batch.queue_ntables);
    end if;
    if not v_previous or v_batch.last_txid > v_batch.queue_switch_step1 then
        return next format('pgq.event_%s_%s', v_batch.queue_id, v_batch.queue_cur_table);
    end if;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.batch_event_tables(x_batch_id bigint) is 'Data tables that may hold events of a batch: the previous one when the batch reaches below the last rotation (step 2 is above every transaction that wrote there), the current one when it reaches above (a transaction that wrote there and is visible at the batch''s end committed after step 1).';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/batch_event_tables.sql', 'ddc007edcc5338825ebb6ad0797f119635b3c9c9dd0fb13c27bd6ceba2ec24dd', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/batch_event_tables.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/batch_event_tables.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'batch_event_tables' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/finish_batch.sql
create or replace function pgq.finish_batch(x_batch_id bigint)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.finish_batch(1)
    --
    --     Closes a batch: the consumer's position moves to its end tick. The
    --     batch of a subconsumer leaves no position behind, it would hold back
    --     rotation.
    --
    --     Security definer: consumers have no right to write the subscription.
    --
    -- Parameters:
    --     x_batch_id - batch
    --
    -- Returns:
    --     1 - closed
    --     0 - not open, with a warning: somebody else closed or took it, what
    --         was done for it may be done again
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq._is_group_member(2)
    --
    -- Tables:
    --     update - pgq.subscription
    --
    -- Locks:
    --     the subscription row
    -- ----------------------------------------------------------------
begin
    update pgq.subscription s
       set sub_active = now(),
           sub_last_tick = case when pgq._is_group_member(s.sub_queue, s.sub_consumer)
                                then null else s.sub_next_tick end,
           sub_next_tick = null,
           sub_batch = null
     where s.sub_batch = x_batch_id;
    if not found then
        raise warning 'finish_batch: batch % is not open', coalesce(x_batch_id::text, '<null>');
        return 0;
    end if;
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.finish_batch(x_batch_id bigint) is 'Closes a batch: the consumer''s position moves to its end tick.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/finish_batch.sql', '127597ccff7443eb7a81f0655b53a4891655ea33e733d78d860254d324710663', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/finish_batch.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/finish_batch.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'finish_batch' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/event_retry.sql
create or replace function pgq.event_retry(x_batch_id bigint, x_event_id bigint, x_retry_time timestamptz)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.event_retry(3)
    --
    --     Puts one event of an open batch into the retry queue. From the given
    --     time on it is delivered again, to this consumer only. The batch stays
    --     open.
    --
    --     Security definer: consumers have no rights on pgq.retry_queue.
    --
    -- Parameters:
    --     x_batch_id   - open batch
    --     x_event_id   - event of that batch
    --     x_retry_time - when to deliver it again
    --
    -- Returns:
    --     1 - queued
    --     0 - this consumer has the event waiting already
    --
    -- Raises:
    --     batch not open; event not in the batch; time is null
    --
    -- Calls:
    --     pgq.batch_event_sql(1)
    --
    -- Tables:
    --     read   - pgq.subscription, data tables of the queue
    --     insert - pgq.retry_queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_sub   pgq.subscription%rowtype;
    v_event record;
begin
    select s.* into v_sub from pgq.subscription s where s.sub_batch = x_batch_id;
    if not found then
        raise exception 'batch not found: %', coalesce(x_batch_id::text, '<null>')
            using errcode = 'undefined_object';
    end if;
    execute 'select * from (' || pgq.batch_event_sql(x_batch_id) || ') ev where ev_id = $1 limit 1'
       into v_event
      using x_event_id;
    if v_event.ev_id is null then
        raise exception 'event not found: batch %, event %', x_batch_id, coalesce(x_event_id::text, '<null>')
            using errcode = 'undefined_object';
    end if;
    insert into pgq.retry_queue (
        ev_retry_after, ev_queue, ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data,
        ev_extra1, ev_extra2, ev_extra3, ev_extra4)
    values (
        x_retry_time, v_sub.sub_queue, v_event.ev_id, v_event.ev_time, v_sub.sub_id,
        coalesce(v_event.ev_retry, 0) + 1, v_event.ev_type, v_event.ev_data,
        v_event.ev_extra1, v_event.ev_extra2, v_event.ev_extra3, v_event.ev_extra4)
    on conflict (ev_owner, ev_id) do nothing;
    return case when found then 1 else 0 end;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.event_retry(x_batch_id bigint, x_event_id bigint, x_retry_seconds integer)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.event_retry(3)
    --
    --     Puts one event of an open batch into the retry queue, to be
    --     delivered again after a delay.
    --
    -- Parameters:
    --     x_batch_id      - open batch
    --     x_event_id      - event of that batch
    --     x_retry_seconds - delay in seconds, may be negative
    --
    -- Returns:
    --     1 - queued
    --     0 - this consumer has the event waiting already
    --
    -- Raises:
    --     batch not open; event not in the batch; delay is null
    --
    -- Calls:
    --     pgq.event_retry(3)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return pgq.event_retry(x_batch_id, x_event_id, now() + make_interval(secs => x_retry_seconds));
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.event_retry(x_batch_id bigint, x_event_id bigint, x_retry_time timestamptz) is 'Puts one event of an open batch into the retry queue.';

comment on function pgq.event_retry(x_batch_id bigint, x_event_id bigint, x_retry_seconds integer) is 'Puts one event of an open batch into the retry queue, to be delivered again after a delay.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/event_retry.sql', 'c41dd35b8460dd6788bc75b6e2355bd4e496bfa1c523f57eeeae7ee8a9b97187', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/event_retry.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/event_retry.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'event_retry' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/batch_retry.sql
create or replace function pgq.batch_retry(i_batch_id bigint, i_retry_seconds integer)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.batch_retry(2)
    --
    --     Puts all events of an open batch into the retry queue. The batch
    --     stays open.
    --
    --     Security definer: consumers have no rights on pgq.retry_queue.
    --
    -- Parameters:
    --     i_batch_id      - open batch
    --     i_retry_seconds - delay in seconds, may be negative
    --
    -- Returns:
    --     number of events queued; those already waiting are skipped
    --
    -- Raises:
    --     batch not open; delay is null
    --
    -- Calls:
    --     pgq.batch_event_sql(1)
    --
    -- Tables:
    --     read   - pgq.subscription, data tables of the queue
    --     insert - pgq.retry_queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_sub   pgq.subscription%rowtype;
    v_count integer;
begin
    select s.* into v_sub from pgq.subscription s where s.sub_batch = i_batch_id;
    if not found then
        raise exception 'batch not found: %', coalesce(i_batch_id::text, '<null>')
            using errcode = 'undefined_object';
    end if;
    execute
        'insert into pgq.retry_queue ('
        ' ev_retry_after, ev_queue, ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data,'
        ' ev_extra1, ev_extra2, ev_extra3, ev_extra4)'
        ' select $1, $2, ev_id, ev_time, $3, coalesce(ev_retry, 0) + 1, ev_type, ev_data,'
        ' ev_extra1, ev_extra2, ev_extra3, ev_extra4'
        ' from (' || pgq.batch_event_sql(i_batch_id) || ') ev'
        ' on conflict (ev_owner, ev_id) do nothing'
    using now() + make_interval(secs => i_retry_seconds), v_sub.sub_queue, v_sub.sub_id;
    get diagnostics v_count = row_count;
    return v_count;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.batch_retry(i_batch_id bigint, i_retry_seconds integer) is 'Puts all events of an open batch into the retry queue.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/batch_retry.sql', '7b491eef4ca3b356a8521202beab4fe5f3ed0975c51f41872b8bf4b3264d2a0d', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/batch_retry.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/batch_retry.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'batch_retry' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/event_retry_raw.sql
create or replace function pgq.event_retry_raw(
    x_queue text, x_consumer text, x_retry_after timestamptz,
    x_ev_id bigint, x_ev_time timestamptz, x_ev_retry integer, x_ev_type text, x_ev_data text,
    x_ev_extra1 text, x_ev_extra2 text, x_ev_extra3 text, x_ev_extra4 text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.event_retry_raw(12)
    --
    --     Puts any row into the retry queue, for one consumer.
    --
    -- Parameters:
    --     x_queue       - queue name
    --     x_consumer    - consumer name
    --     x_retry_after - when to deliver it
    --     x_ev_id       - event id, null: next of the queue's sequence
    --     x_ev_time     - creation time
    --     x_ev_retry    - number of redeliveries
    --     x_ev_type     - event type
    --     x_ev_data     - event data
    --     x_ev_extra1   - free for the producer
    --     x_ev_extra2   - free for the producer
    --     x_ev_extra3   - free for the producer
    --     x_ev_extra4   - free for the producer
    --
    -- Returns:
    --     event id
    --
    -- Raises:
    --     consumer not registered on the queue; the id is waiting for that
    --     consumer already; time is null
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer, pgq.subscription
    --     insert - pgq.retry_queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_queue pgq.queue%rowtype;
    v_owner integer;
    v_id    bigint := x_ev_id;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = x_queue;
    select s.sub_id into v_owner
      from pgq.subscription s
      join pgq.consumer c on c.co_id = s.sub_consumer
     where s.sub_queue = v_queue.queue_id
       and c.co_name = x_consumer;
    if not found then
        raise exception 'consumer % is not registered on queue %',
                coalesce(x_consumer, '<null>'), coalesce(x_queue, '<null>')
            using errcode = 'undefined_object';
    end if;
    if v_id is null then
        v_id := nextval(v_queue.queue_event_seq::regclass);
    end if;
    insert into pgq.retry_queue (
        ev_retry_after, ev_queue, ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data,
        ev_extra1, ev_extra2, ev_extra3, ev_extra4)
    values (
        x_retry_after, v_queue.queue_id, v_id, x_ev_time, v_owner, x_ev_retry,
        x_ev_type, x_ev_data, x_ev_extra1, x_ev_extra2, x_ev_extra3, x_ev_extra4);
    return v_id;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.event_retry_raw(x_queue text, x_consumer text, x_retry_after timestamptz, x_ev_id bigint, x_ev_time timestamptz, x_ev_retry integer, x_ev_type text, x_ev_data text, x_ev_extra1 text, x_ev_extra2 text, x_ev_extra3 text, x_ev_extra4 text) is 'Puts any row into the retry queue, for one consumer.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/event_retry_raw.sql', '360cf097b9d437fd6f5077e3505c5302d6d1ba554bb0b7016743d34e93c85f8d', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/event_retry_raw.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/event_retry_raw.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'event_retry_raw' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/ticker.sql
create or replace function pgq.ticker(i_queue_name text, i_tick_id bigint, i_orig_timestamp timestamptz, i_event_seq bigint)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.ticker(4)
    --
    --     Inserts a tick that was made elsewhere, for queues whose ticks are
    --     pushed (queue_external_ticker). The snapshot is the current one.
    --
    -- Parameters:
    --     i_queue_name     - queue name
    --     i_tick_id        - id of the tick
    --     i_orig_timestamp - time of the tick
    --     i_event_seq      - event counter at the tick
    --
    -- Returns:
    --     tick id
    --
    -- Raises:
    --     queue not found; queue has its own ticker; ticker paused; tick id
    --     exists already
    --
    -- Calls:
    --     pgq.seq_setval(2), pgq.wakeup_channel(1)
    --
    -- Tables:
    --     read   - pgq.queue
    --     insert - pgq.tick
    --
    -- Locks:
    --     advisory lock (1885827444, queue id) until the transaction ends;
    --     waits for another ticker of the same queue
    -- ----------------------------------------------------------------
declare
    v_queue pgq.queue%rowtype;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    if not found then
        raise exception 'queue not found: %', coalesce(i_queue_name, '<null>')
            using errcode = 'undefined_object';
    end if;
    if not v_queue.queue_external_ticker then
        raise exception 'queue % makes its own ticks, external ticks are refused', i_queue_name
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if v_queue.queue_ticker_paused then
        raise exception 'ticker of queue % is paused', i_queue_name
            using errcode = 'object_not_in_prerequisite_state';
    end if;

    perform pg_advisory_xact_lock(1885827444, v_queue.queue_id);
    insert into pgq.tick (tick_queue, tick_id, tick_time, tick_event_seq)
    values (v_queue.queue_id, i_tick_id, i_orig_timestamp, i_event_seq);

    perform pgq.seq_setval(v_queue.queue_tick_seq, i_tick_id);
    perform pgq.seq_setval(v_queue.queue_event_seq, i_event_seq);
    perform pg_notify(pgq.wakeup_channel(i_queue_name), i_tick_id::text);
    return i_tick_id;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.ticker(i_queue_name text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.ticker(1)
    --
    --     Makes a tick if one is due. With new events since the newest tick:
    --     when they are at least ticker_max_count, or the tick is at least
    --     ticker_max_lag old. Without: when less than two ticks exist, or the
    --     newest one is older than half of ticker_max_lag and older than twice
    --     the distance of the last two, or than ticker_idle_period.
    --
    --     Two tickers of one queue never interleave: the one without the lock
    --     returns at once. The lock is taken in a statement of its own, so the
    --     INSERT after it has a newer snapshot than every earlier tick. In a
    --     transaction with a fixed snapshot no tick is made when another one
    --     was taken since; it would go backwards.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     tick id, or null when none is due or another ticker is at work
    --
    -- Raises:
    --     queue not found; queue has an external ticker; ticker paused; the
    --     newest tick lies in the future of this server's transaction ids
    --
    -- Calls:
    --     pgq._event_count(1), pgq._tick_due(3), pgq.wakeup_channel(1)
    --
    -- Tables:
    --     read   - pgq.queue, the queue's sequences
    --     insert - pgq.tick
    --
    -- Locks:
    --     advisory lock (1885827444, queue id) until the transaction ends,
    --     never waits for it
    -- ----------------------------------------------------------------
declare
    v_queue  pgq.queue%rowtype;
    v_events bigint;
    v_tick   bigint;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    if not found then
        raise exception 'queue not found: %', coalesce(i_queue_name, '<null>')
            using errcode = 'undefined_object';
    end if;
    if v_queue.queue_external_ticker then
        raise exception 'queue % has an external ticker, it makes no ticks of its own', i_queue_name
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if v_queue.queue_ticker_paused then
        raise exception 'ticker of queue % is paused', i_queue_name
            using errcode = 'object_not_in_prerequisite_state';
    end if;

    if not pgq._tick_due(v_queue, pgq._event_count(v_queue.queue_event_seq), false) then
        return null;
    end if;
    if not pg_try_advisory_xact_lock(1885827444, v_queue.queue_id) then
        return null;
    end if;
    -- look again: a ticker that was faster may have made the tick
    v_events := pgq._event_count(v_queue.queue_event_seq);
    if not pgq._tick_due(v_queue, v_events, true) then
        return null;
    end if;
    insert into pgq.tick (tick_queue, tick_id, tick_time, tick_event_seq)
    values (v_queue.queue_id, nextval(v_queue.queue_tick_seq::regclass), now(), v_events)
    returning tick_id into v_tick;

    perform pg_notify(pgq.wakeup_channel(i_queue_name), v_tick::text);
    return v_tick;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.ticker()
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.ticker(0)
    --
    --     Looks at all queues by name and makes the ticks that are due. All of
    --     it is one transaction; a daemon does better with one transaction for
    --     each queue.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     number of queues that got a tick
    --
    -- Raises:
    --     as pgq.ticker(1), for any of the queues
    --
    -- Calls:
    --     pgq.ticker(1)
    --
    -- Tables:
    --     read   - pgq.queue
    --
    -- Locks:
    --     as pgq.ticker(1), for all queues ticked
    -- ----------------------------------------------------------------
declare
    v_name  text;
    v_count bigint := 0;
begin
    for v_name in
        select q.queue_name
          from pgq.queue q
         where not q.queue_external_ticker
           and not q.queue_ticker_paused
         order by q.queue_name
    loop
        if pgq.ticker(v_name) is not null then
            v_count := v_count + 1;
        end if;
    end loop;
    return v_count;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.ticker(i_queue_name text, i_tick_id bigint, i_orig_timestamp timestamptz, i_event_seq bigint) is 'Inserts a tick that was made elsewhere, for queues whose ticks are pushed (queue_external_ticker).';

comment on function pgq.ticker(i_queue_name text) is 'Makes a tick if one is due.';

comment on function pgq.ticker() is 'Looks at all queues by name and makes the ticks that are due.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/ticker.sql', '517f1f9198462254eb1b59cfdefd5e023a0b1bab1a1f8f787886ce266af5e5a3', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/ticker.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/ticker.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'ticker' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/force_tick.sql
create or replace function pgq.force_tick(i_queue_name text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.force_tick(1)
    --
    --     Advances the event counter of a queue so far that the next ticker
    --     call makes a tick. It makes none itself; callers repeat it until the
    --     answer grows. The ids are drawn one by one, because setval beside
    --     running producers could give an id out twice; only a jump that no
    --     producer can overtake is made with setval.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     id of the newest existing tick; null when the queue is missing. For
    --     a paused or externally ticked queue nothing is advanced
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue, pgq.tick
    --     update - the queue's event sequence
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_queue pgq.queue%rowtype;
    v_jump  bigint;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    if not found then
        return null;
    end if;
    if not v_queue.queue_external_ticker and not v_queue.queue_ticker_paused then
        v_jump := 2 * v_queue.queue_ticker_max_count::bigint + 1000;
        if v_jump > 1000000 then
            perform setval(v_queue.queue_event_seq::regclass,
                           nextval(v_queue.queue_event_seq::regclass) + v_jump);
        else
            perform nextval(v_queue.queue_event_seq::regclass) from generate_series(0, v_jump);
        end if;
    end if;
    return (select t.tick_id
              from pgq.tick t
             where t.tick_queue = v_queue.queue_id
             order by t.tick_id desc
             limit 1);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.force_tick(i_queue_name text) is 'Advances the event counter of a queue so far that the next ticker call makes a tick.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/force_tick.sql', '3ac66c9aa5d20783de42ea84aaf3ecff656c1ca62c7ca0583111e561c08731fa', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/force_tick.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/force_tick.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'force_tick' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/maint_operations.sql
create or replace function pgq.maint_operations(out func_name text, out func_arg text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.maint_operations(0)
    --
    --     What the maintenance process has to do now, in order. Rows named
    --     vacuum are statements on the table func_arg; everything else is
    --     called as func_name(func_arg), or without argument when that is
    --     null, each in a transaction of its own. A first result column that
    --     is a non-zero integer asks to be called again at once.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     rows of func_name and func_arg
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.maint_tables_to_vacuum(0), pgq._has_function(2)
    --
    -- Tables:
    --     read   - pgq.queue; pgq_node.node_info and londiste.seq_info when
    --              those schemas are installed
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_step2 boolean;
begin
    -- rotation
    v_step2 := exists (select 1 from pgq.queue q where q.queue_switch_step2 is null);
    func_name := 'pgq.maint_rotate_tables_step1';
    for func_arg in
        select q.queue_name
          from pgq.queue q
         where q.queue_switch_step2 is not null
           and q.queue_switch_time + q.queue_rotation_period < now()
         order by q.queue_name
    loop
        v_step2 := true;
        return next;
    end loop;
    if v_step2 then
        func_name := 'pgq.maint_rotate_tables_step2';
        func_arg := null;
        return next;
    end if;

    -- extra maintenance of single queues
    return query
        select m.name, q.queue_name
          from pgq.queue q
         cross join lateral unnest(q.queue_extra_maint) with ordinality m (name, n)
         order by q.queue_name, m.n;

    -- tables the server does not vacuum
    return query select 'vacuum'::text, v from pgq.maint_tables_to_vacuum() v;

    -- the layers above
    if pgq._has_function('pgq_node', 'maint_watermark') then
        return query execute
            'select ''pgq_node.maint_watermark''::text, n.queue_name'
            ' from pgq_node.node_info n where n.node_type = ''root'' order by n.queue_name';
    end if;
    if pgq._has_function('londiste', 'root_check_seqs') then
        return query execute
            'select distinct ''londiste.root_check_seqs''::text, n.queue_name'
            ' from pgq_node.node_info n join londiste.seq_info s on s.queue_name = n.queue_name'
            ' where n.node_type = ''root'' and s.local order by 2';
    end if;
    if pgq._has_function('londiste', 'periodic_maintenance') then
        func_name := 'londiste.periodic_maintenance';
        func_arg := null;
        return next;
    end if;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.maint_operations(out func_name text, out func_arg text) is 'What the maintenance process has to do now, in order.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/maint_operations.sql', '626078c7ccffe4101632dce27db6afec87984f3614a63c4a21ca3c69486567a8', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/maint_operations.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/maint_operations.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'maint_operations' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/maint_retry_events.sql
create or replace function pgq.maint_retry_events()
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.maint_retry_events(0)
    --
    --     Moves due events from the retry queue back into their queues, where
    --     a later batch of their owner delivers them. Oldest first, up to 1000
    --     for a call; call it until it answers 0.
    --
    --     Events of a queue that is closed for writing stay where they are, so
    --     that one such queue does not stop the others.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     number of events moved
    --
    -- Raises:
    --     40001 when a repeatable read transaction is older than the last
    --     change of a queue
    --
    -- Calls:
    --     pgq.current_event_table(1)
    --
    -- Tables:
    --     read   - pgq.queue
    --     delete - pgq.retry_queue
    --     insert - data tables of the queues, with their event sequences
    --
    -- Locks:
    --     advisory lock (1885827442, 0) until the transaction ends: two movers
    --     take turns; row locks on the moved rows
    -- ----------------------------------------------------------------
declare
    v_queue record;
    v_moved integer;
    v_count integer := 0;
begin
    perform pg_advisory_xact_lock(1885827442, 0);
    for v_queue in
        select q.queue_name, q.queue_id, q.queue_event_seq, array_agg(r.ev_owner) as owners, array_agg(r.ev_id) as ids
          from (select d.ev_queue, d.ev_owner, d.ev_id
                  from pgq.retry_queue d
                  join pgq.queue dq on dq.queue_id = d.ev_queue
                 where d.ev_retry_after <= now()
                   and (not dq.queue_disable_insert or current_setting('session_replication_role') = 'replica')
                 order by d.ev_retry_after
                 limit 1000) r
          join pgq.queue q on q.queue_id = r.ev_queue
         group by q.queue_id
         order by q.queue_id
    loop
        execute format(
            'with due as ('
            ' delete from pgq.retry_queue r'
            ' using unnest($1::integer[], $2::bigint[]) k (ev_owner, ev_id)'
            ' where r.ev_owner = k.ev_owner and r.ev_id = k.ev_id and r.ev_retry_after <= now()'
            ' returning r.*)'
            ' insert into %s (ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data,'
            ' ev_extra1, ev_extra2, ev_extra3, ev_extra4)'
            ' select ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data,'
            ' ev_extra1, ev_extra2, ev_extra3, ev_extra4 from due',
            pgq.current_event_table(v_queue.queue_name))
        using v_queue.owners, v_queue.ids;
        get diagnostics v_moved = row_count;
        -- the counter tells the ticker that there is something to tick
        perform nextval(v_queue.queue_event_seq::regclass) from generate_series(1, v_moved);
        v_count := v_count + v_moved;
    end loop;
    return v_count;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.maint_retry_events() is 'Moves due events from the retry queue back into their queues, where a later batch of their owner delivers them.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/maint_retry_events.sql', 'af5e28d7b3b08ddd926dc982779257c4f61d7c656d189897c2859df5898ed941', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/maint_retry_events.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/maint_retry_events.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'maint_retry_events' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/maint_rotate_tables_step1.sql
create or replace function pgq.maint_rotate_tables_step1(i_queue_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.maint_rotate_tables_step1(1)
    --
    --     First half of a rotation: truncates the oldest data table and makes
    --     it current. Skipped while a consumer may still need events from
    --     before the last rotation, and without waiting when anybody holds a
    --     lock on the table or on the queue's row. Old ticks go with it, so ticks stay for at least
    --     one rotation period.
    --
    --     The queue row is locked before the positions are read: a consumer
    --     that registers meanwhile waits, one that registered is seen.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     0, also when nothing was to do or the queue is missing
    --
    -- Raises:
    --     the tick of the slowest consumer is gone
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read     - pgq.subscription, pgq.tick
    --     update   - pgq.queue
    --     delete   - pgq.tick
    --     truncate - next data table of the queue
    --
    -- Locks:
    --     the queue row and access exclusive on the table truncated, both
    --     without waiting
    -- ----------------------------------------------------------------
declare
    v_queue pgq.queue%rowtype;
    v_tick  bigint;
    v_xmin  bigint;
    v_next  integer;
begin
    select q.* into v_queue
      from pgq.queue q
     where q.queue_name = i_queue_name
       for no key update skip locked;
    if not found
       or v_queue.queue_switch_step2 is null
       or now() <= v_queue.queue_switch_time + v_queue.queue_rotation_period then
        return 0;
    end if;

    select min(s.sub_last_tick) into v_tick from pgq.subscription s where s.sub_queue = v_queue.queue_id;
    if v_tick is not null then
        select txid_snapshot_xmin(t.tick_snapshot) into v_xmin
          from pgq.tick t
         where t.tick_queue = v_queue.queue_id and t.tick_id = v_tick;
        if not found then
            raise exception 'position of a consumer of queue % is gone: tick %', i_queue_name, v_tick
                using errcode = 'object_not_in_prerequisite_state';
        end if;
        if v_xmin <= v_queue.queue_switch_step2 then
            return 0;
        end if;
    end if;

    v_next := (v_queue.queue_cur_table + 1) % v_queue.queue_ntables;
    begin
        execute format('lock table pgq.event_%s_%s in access exclusive mode nowait', v_queue.queue_id, v_next);
    exception
        when lock_not_available then
            return 0;
    end;
    execute format('truncate pgq.event_%s_%s', v_queue.queue_id, v_next);

    update pgq.queue q
       set queue_cur_table = v_next,
           queue_switch_time = now(),
           queue_switch_step1 = txid_current(),
           queue_switch_step2 = null
     where q.queue_id = v_queue.queue_id;
    delete from pgq.tick t
     where t.tick_queue = v_queue.queue_id
       and txid_snapshot_xmin(t.tick_snapshot) < v_queue.queue_switch_step2;
    return 0;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.maint_rotate_tables_step1(i_queue_name text) is 'First half of a rotation: truncates the oldest data table and makes it current.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/maint_rotate_tables_step1.sql', 'd1d53b506896734dcf640c0b56e321eec7cc96116dfd43503d272d4b46641bc1', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/maint_rotate_tables_step1.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/maint_rotate_tables_step1.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'maint_rotate_tables_step1' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/maint_rotate_tables_step2.sql
create or replace function pgq.maint_rotate_tables_step2()
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.maint_rotate_tables_step2(0)
    --
    --     Second half of the rotations that are half done: records a txid that
    --     is above every transaction that may have written into the table that
    --     was current before. Must run in a later transaction than step 1; a
    --     queue that was rotated by this very transaction is left half done.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     0
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     update - pgq.queue
    --
    -- Locks:
    --     the queue rows
    -- ----------------------------------------------------------------
begin
    update pgq.queue q
       set queue_switch_step2 = txid_current()
     where q.queue_switch_step2 is null
       and q.queue_switch_step1 <> txid_current();
    return 0;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.maint_rotate_tables_step2() is 'Second half of the rotations that are half done: records a txid that is above every transaction that may have written into the table that was current before.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/maint_rotate_tables_step2.sql', '38737c066bedfeea86e0f8185ea329758f5a171eb59a80a8690e47b43cdb4a98', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/maint_rotate_tables_step2.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/maint_rotate_tables_step2.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'maint_rotate_tables_step2' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/maint_tables_to_vacuum.sql
create or replace function pgq.maint_tables_to_vacuum()
returns setof text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.maint_tables_to_vacuum(0)
    --
    --     Small tables with many updates that the maintenance has to vacuum
    --     because the server does not.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     names of the existing ones; nothing when autovacuum is on
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    if current_setting('autovacuum') = 'on' then
        return;
    end if;
    return query
        select v.name
          from unnest(array[
                   'pgq.subscription', 'pgq.consumer', 'pgq.queue', 'pgq.tick', 'pgq.retry_queue',
                   'pgq_ext.completed_tick', 'pgq_ext.completed_batch', 'pgq_ext.completed_event',
                   'pgq_ext.partial_batch', 'pgq_node.local_state', 'londiste.seq_info',
                   'txid.epoch', 'londiste.completed']) with ordinality v (name, n)
          join pg_namespace s on s.nspname = split_part(v.name, '.', 1)
          join pg_class c on c.relnamespace = s.oid
                         and c.relname = split_part(v.name, '.', 2)
                         and c.relkind = 'r'
         order by v.n;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.maint_tables_to_vacuum() is 'Small tables with many updates that the maintenance has to vacuum because the server does not.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/maint_tables_to_vacuum.sql', '87e4e4eba5c9b1551cd4e86c8a07f99e4f5d47272467edb3ea8e41654b9e4cff', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/maint_tables_to_vacuum.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/maint_tables_to_vacuum.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'maint_tables_to_vacuum' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/get_queue_info.sql
create or replace function pgq.get_queue_info(
    in i_queue_name text,
    out queue_name text, out queue_ntables integer, out queue_cur_table integer,
    out queue_rotation_period interval, out queue_switch_time timestamptz,
    out queue_external_ticker boolean, out queue_ticker_paused boolean,
    out queue_ticker_max_count integer, out queue_ticker_max_lag interval,
    out queue_ticker_idle_period interval, out ticker_lag interval,
    out ev_per_sec float8, out ev_new bigint, out last_tick_id bigint)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_queue_info(1)
    --
    --     State of one queue or of all.
    --
    -- Parameters:
    --     i_queue_name - queue name, null: all queues
    --
    -- Returns:
    --     one row for each queue, by name: its settings, ticker_lag (age of
    --     the newest tick), ev_per_sec (events per second over about the last
    --     20 ticks, null when their times are equal), ev_new (events since the
    --     newest tick, by the event counter), last_tick_id
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq._event_count(1)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.tick, event sequences
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query
        select q.queue_name, q.queue_ntables, q.queue_cur_table, q.queue_rotation_period,
               q.queue_switch_time, q.queue_external_ticker, q.queue_ticker_paused,
               q.queue_ticker_max_count, q.queue_ticker_max_lag, q.queue_ticker_idle_period,
               now() - top.tick_time,
               (top.tick_event_seq - low.tick_event_seq)
                   / nullif(extract(epoch from top.tick_time - low.tick_time), 0)::float8,
               pgq._event_count(q.queue_event_seq) - top.tick_event_seq,
               top.tick_id
          from pgq.queue q
          left join lateral (
                   select t.* from pgq.tick t
                    where t.tick_queue = q.queue_id
                    order by t.tick_id desc limit 1) top on true
          left join lateral (
                   select t.* from pgq.tick t
                    where t.tick_queue = q.queue_id and t.tick_id >= top.tick_id - 20
                    order by t.tick_id limit 1) low on true
         where i_queue_name is null or q.queue_name = i_queue_name
         order by q.queue_name;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.get_queue_info(
    out queue_name text, out queue_ntables integer, out queue_cur_table integer,
    out queue_rotation_period interval, out queue_switch_time timestamptz,
    out queue_external_ticker boolean, out queue_ticker_paused boolean,
    out queue_ticker_max_count integer, out queue_ticker_max_lag interval,
    out queue_ticker_idle_period interval, out ticker_lag interval,
    out ev_per_sec float8, out ev_new bigint, out last_tick_id bigint)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_queue_info(0)
    --
    --     State of all queues.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     as pgq.get_queue_info(1)
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.get_queue_info(1)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query select i.* from pgq.get_queue_info(null) i;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.get_queue_info(in i_queue_name text, out queue_name text, out queue_ntables integer, out queue_cur_table integer, out queue_rotation_period interval, out queue_switch_time timestamptz, out queue_external_ticker boolean, out queue_ticker_paused boolean, out queue_ticker_max_count integer, out queue_ticker_max_lag interval, out queue_ticker_idle_period interval, out ticker_lag interval, out ev_per_sec float8, out ev_new bigint, out last_tick_id bigint) is 'State of one queue or of all.';

comment on function pgq.get_queue_info(out queue_name text, out queue_ntables integer, out queue_cur_table integer, out queue_rotation_period interval, out queue_switch_time timestamptz, out queue_external_ticker boolean, out queue_ticker_paused boolean, out queue_ticker_max_count integer, out queue_ticker_max_lag interval, out queue_ticker_idle_period interval, out ticker_lag interval, out ev_per_sec float8, out ev_new bigint, out last_tick_id bigint) is 'State of all queues.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/get_queue_info.sql', '0cb8c785319e7934362a65a79eac83dcda3bad2ebea554a600a0843ff196b442', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/get_queue_info.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/get_queue_info.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'get_queue_info' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/get_consumer_info.sql
create or replace function pgq.get_consumer_info(
    in i_queue_name text, in i_consumer_name text,
    out queue_name text, out consumer_name text, out lag interval, out last_seen interval,
    out last_tick bigint, out current_batch bigint, out next_tick bigint, out pending_events bigint)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_consumer_info(2)
    --
    --     State of the subscriptions of a queue, of a consumer, or of both.
    --
    --     Security definer, as in the contract.
    --
    -- Parameters:
    --     i_queue_name    - queue name, null: all queues
    --     i_consumer_name - consumer name, null: all consumers
    --
    -- Returns:
    --     one row for each subscription, by queue and consumer: lag (age of
    --     the last finished tick), last_seen (time since a batch was opened or
    --     closed), last_tick, current_batch, next_tick (end tick of the open
    --     batch), pending_events (up to the newest tick, by the event counter)
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer, pgq.subscription, pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query
        select q.queue_name, c.co_name, now() - t.tick_time, now() - s.sub_active,
               s.sub_last_tick, s.sub_batch, s.sub_next_tick,
               top.tick_event_seq - t.tick_event_seq
          from pgq.queue q
          join pgq.subscription s on s.sub_queue = q.queue_id
          join pgq.consumer c on c.co_id = s.sub_consumer
          left join pgq.tick t on t.tick_queue = q.queue_id and t.tick_id = s.sub_last_tick
          left join lateral (
                   select n.tick_event_seq from pgq.tick n
                    where n.tick_queue = q.queue_id
                    order by n.tick_id desc limit 1) top on true
         where (i_queue_name is null or q.queue_name = i_queue_name)
           and (i_consumer_name is null or c.co_name = i_consumer_name)
         order by q.queue_name, c.co_name;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.get_consumer_info(
    in i_queue_name text,
    out queue_name text, out consumer_name text, out lag interval, out last_seen interval,
    out last_tick bigint, out current_batch bigint, out next_tick bigint, out pending_events bigint)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_consumer_info(1)
    --
    --     State of the subscriptions of a queue.
    --
    -- Parameters:
    --     i_queue_name - queue name, null: all queues
    --
    -- Returns:
    --     as pgq.get_consumer_info(2)
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.get_consumer_info(2)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query select i.* from pgq.get_consumer_info(i_queue_name, null) i;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.get_consumer_info(
    out queue_name text, out consumer_name text, out lag interval, out last_seen interval,
    out last_tick bigint, out current_batch bigint, out next_tick bigint, out pending_events bigint)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_consumer_info(0)
    --
    --     State of all subscriptions.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     as pgq.get_consumer_info(2)
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.get_consumer_info(2)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query select i.* from pgq.get_consumer_info(null, null) i;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq.get_consumer_info(in i_queue_name text, in i_consumer_name text, out queue_name text, out consumer_name text, out lag interval, out last_seen interval, out last_tick bigint, out current_batch bigint, out next_tick bigint, out pending_events bigint) is 'State of the subscriptions of a queue, of a consumer, or of both.';

comment on function pgq.get_consumer_info(in i_queue_name text, out queue_name text, out consumer_name text, out lag interval, out last_seen interval, out last_tick bigint, out current_batch bigint, out next_tick bigint, out pending_events bigint) is 'State of the subscriptions of a queue.';

comment on function pgq.get_consumer_info(out queue_name text, out consumer_name text, out lag interval, out last_seen interval, out last_tick bigint, out current_batch bigint, out next_tick bigint, out pending_events bigint) is 'State of all subscriptions.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/get_consumer_info.sql', 'c2dae19e72e8607262f25b35dd7028c77c4b4fad95b445a4f49240bd085ab068', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/get_consumer_info.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/get_consumer_info.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = 'get_consumer_info' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/_event_count.sql
create or replace function pgq._event_count(i_queue_event_seq text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._event_count(1)
    --
    --     Event counter of a queue: how many ids its sequence has given out.
    --     Unlike last_value it is 0 before the first event, so that the first
    --     event of a new queue moves it.
    --
    -- Parameters:
    --     i_queue_event_seq - pgq.queue.queue_event_seq
    --
    -- Returns:
    --     counter, 0 before the first event
    --
    -- Raises:
    --     sequence does not exist
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - the sequence
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return coalesce(pg_catalog.pg_sequence_last_value(i_queue_event_seq::regclass), 0);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq._event_count(i_queue_event_seq text) is 'Event counter of a queue: how many ids its sequence has given out.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/_event_count.sql', '3b43ebd1a5a9765726fec2b97d29058375e75caacef00844e2990e3c27638304', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/_event_count.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/_event_count.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = '_event_count' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/_tick_due.sql
create or replace function pgq._tick_due(i_queue pgq.queue, i_events bigint, i_locked boolean)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._tick_due(3)
    --
    --     Decides whether a queue needs a tick now; the rules stand at
    --     pgq.ticker(1).
    --
    -- Parameters:
    --     i_queue  - row of the queue
    --     i_events - event counter now
    --     i_locked - true when the ticker lock of the queue is held: only then
    --                the tick sequence can be compared with what is visible
    --
    -- Returns:
    --     true when a tick is due
    --
    -- Raises:
    --     the newest tick lies in the future of this server's transaction ids
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.tick, the queue's tick sequence
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_newest record;
    v_before timestamptz;
    v_lag    interval;
    v_new    bigint;
begin
    select t.tick_id, t.tick_time, t.tick_event_seq, t.tick_snapshot
      into v_newest
      from pgq.tick t
     where t.tick_queue = i_queue.queue_id
     order by t.tick_id desc
     limit 1;
    if not found then
        return true;
    end if;
    if txid_snapshot_xmax(v_newest.tick_snapshot) > txid_snapshot_xmax(txid_current_snapshot()) then
        raise exception 'tick % of queue % lies in the future: its snapshot is %, the server is at %',
                v_newest.tick_id, i_queue.queue_name, v_newest.tick_snapshot, txid_current_snapshot()
            using errcode = 'object_not_in_prerequisite_state',
                  hint = 'The database was restored into a server with smaller transaction ids.';
    end if;
    if i_locked
       and current_setting('transaction_isolation') in ('repeatable read', 'serializable')
       and pg_catalog.pg_sequence_last_value(i_queue.queue_tick_seq::regclass) > v_newest.tick_id then
        return false;
    end if;

    v_lag := now() - v_newest.tick_time;
    v_new := i_events - v_newest.tick_event_seq;
    if v_new > 0 then
        return v_new >= i_queue.queue_ticker_max_count or v_lag >= i_queue.queue_ticker_max_lag;
    end if;

    select t.tick_time
      into v_before
      from pgq.tick t
     where t.tick_queue = i_queue.queue_id
       and t.tick_id < v_newest.tick_id
     order by t.tick_id desc
     limit 1;
    if not found then
        return true;
    end if;
    if v_lag < i_queue.queue_ticker_max_lag / 2 then
        return false;
    end if;
    return v_lag >= 2 * (v_newest.tick_time - v_before) or v_lag >= i_queue.queue_ticker_idle_period;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq._tick_due(i_queue pgq.queue, i_events bigint, i_locked boolean) is 'Decides whether a queue needs a tick now; the rules stand at pgq.ticker(1).';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/_tick_due.sql', '7ad449a9f7c83d664a36c4c801185059298f268e4c7d29cd3d62471b2da20501', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/_tick_due.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/_tick_due.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = '_tick_due' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/_pin_queue.sql
create or replace function pgq._pin_queue(i_queue_name text)
returns void as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._pin_queue(1)
    --
    --     Refuses a writer whose snapshot is older than the last change of the
    --     queue. A repeatable read or serializable transaction goes on seeing
    --     the data table that was current when its snapshot was taken; writing
    --     there after a rotation would lose the event. A row lock makes the
    --     server compare versions: an outdated snapshot fails with 40001. A
    --     key share lock would not do: it overlooks updates that leave the key
    --     alone, and a rotation is one.
    --
    --     The lock is given back at once, by undoing the subtransaction that
    --     took it: held to the end, a stream of such writers would keep every
    --     rotation away. It is not needed any longer. The caller has taken its
    --     txid before, so a rotation that comes later has a step 2 above it,
    --     and batches look into the table written here. For the same reason
    --     one look for each transaction is enough.
    --
    --     Security definer: a row lock needs the right to update pgq.queue,
    --     which producers do not have.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     nothing
    --
    -- Raises:
    --     40001 when the queue row changed since the transaction's snapshot;
    --     the client repeats the transaction
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue
    --
    -- Locks:
    --     share lock on the queue row, for the moment of the call: waits for a
    --     rotation that is under way
    -- ----------------------------------------------------------------
declare
    v_id   integer;
    v_seen text;
begin
    select q.queue_id into v_id from pgq.queue q where q.queue_name = i_queue_name;
    v_seen := 'skyd.pinned_' || v_id;
    if v_id is null or current_setting(v_seen, true) = txid_current()::text then
        return;
    end if;
    begin
        perform 1 from pgq.queue q where q.queue_id = v_id for share;
        raise exception 'the lock is not needed any longer' using errcode = 'SKYD0';
    exception
        when sqlstate 'SKYD0' then
            perform set_config(v_seen, txid_current()::text, true);
    end;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq._pin_queue(i_queue_name text) is 'Refuses a writer whose snapshot is older than the last change of the queue.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/_pin_queue.sql', 'dd51c4e7b903a7b61200404e830bccbd4b3d4315da5407393c436ec11617c550', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/_pin_queue.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/_pin_queue.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = '_pin_queue' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/_check_tx_limit.sql
create or replace function pgq._check_tx_limit(i_queue_id integer, i_limit integer, i_txid bigint)
returns void as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._check_tx_limit(3)
    --
    --     Counts one event against queue_per_tx_limit. The count lives in a
    --     transaction-local setting that carries the txid, so that nothing is
    --     counted across transactions and a rolled back savepoint gives its
    --     events back.
    --
    -- Parameters:
    --     i_queue_id - queue
    --     i_limit    - most events one transaction may insert
    --     i_txid     - the current transaction
    --
    -- Returns:
    --     nothing
    --
    -- Raises:
    --     the transaction has inserted i_limit events into the queue already
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue, for the name in the message
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_name  text := 'skyd.tx_count_' || i_queue_id;
    v_state text := current_setting(v_name, true);
    v_count integer := 0;
begin
    if split_part(v_state, ':', 1) = i_txid::text then
        v_count := split_part(v_state, ':', 2)::integer;
    end if;
    if v_count >= i_limit then
        raise exception 'transaction inserted % events into queue %, its limit is %',
                v_count, (select q.queue_name from pgq.queue q where q.queue_id = i_queue_id), i_limit
            using errcode = 'program_limit_exceeded',
                  hint = 'Split the transaction, or raise pgq.queue.queue_per_tx_limit.';
    end if;
    perform set_config(v_name, i_txid || ':' || (v_count + 1), true);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq._check_tx_limit(i_queue_id integer, i_limit integer, i_txid bigint) is 'Counts one event against queue_per_tx_limit.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/_check_tx_limit.sql', 'a0cecdcce5d977dcc2fd3bae054f3d40970defdd889d835bed48251b15963cb5', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/_check_tx_limit.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/_check_tx_limit.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = '_check_tx_limit' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/_is_group_member.sql
create or replace function pgq._is_group_member(i_queue_id integer, i_consumer_id integer)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._is_group_member(2)
    --
    --     Tells whether a subscription belongs to a subconsumer. Members of a
    --     cooperative group share the sub_id of the main consumer and are
    --     named <consumer>.<subconsumer>.
    --
    -- Parameters:
    --     i_queue_id    - queue
    --     i_consumer_id - consumer of the subscription
    --
    -- Returns:
    --     true for a member, false for a plain or a main consumer
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.subscription, pgq.consumer
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return exists (
        select 1
          from pgq.subscription s
          join pgq.consumer c on c.co_id = s.sub_consumer
          join pgq.subscription o on o.sub_queue = s.sub_queue and o.sub_id = s.sub_id
                                 and o.sub_consumer <> s.sub_consumer
          join pgq.consumer main on main.co_id = o.sub_consumer
         where s.sub_queue = i_queue_id
           and s.sub_consumer = i_consumer_id
           and starts_with(c.co_name, main.co_name || '.'));
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq._is_group_member(i_queue_id integer, i_consumer_id integer) is 'Tells whether a subscription belongs to a subconsumer.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/_is_group_member.sql', '6b1d3ad39cc2ccb8d9a6520dc3d543e2b2ce0ac93250fb3113199fe9b58b8aa3', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/_is_group_member.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/_is_group_member.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = '_is_group_member' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/_has_function.sql
create or replace function pgq._has_function(i_schema text, i_function text)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._has_function(2)
    --
    --     Tells whether a function of another schema is installed.
    --
    -- Parameters:
    --     i_schema   - schema name
    --     i_function - function name
    --
    -- Returns:
    --     true when a function of that name exists, whatever its arguments
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return exists (
        select 1
          from pg_proc p
          join pg_namespace n on n.oid = p.pronamespace
         where n.nspname = i_schema
           and p.proname = i_function);
end;
$$ language plpgsql stable set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq._has_function(i_schema text, i_function text) is 'Tells whether a function of another schema is installed.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/_has_function.sql', 'bfa0ca3f4a59f1cdd4351a408679ebee8f71df98ad77222f33ce28c3c0a6aa5d', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/_has_function.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/_has_function.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = '_has_function' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/_urlencode.sql
create or replace function pgq._urlencode(i_text text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._urlencode(1)
    --
    --     Percent-encodes a text the way logutriga events carry it: letters,
    --     digits, underscore, dot and minus stay, a blank becomes a plus sign,
    --     every other byte of the UTF-8 form becomes %xx in lower case.
    --
    -- Parameters:
    --     i_text - text
    --
    -- Returns:
    --     encoded text; null for null
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    if i_text collate "C" !~ '[^A-Za-z0-9_.-]' then
        return i_text;
    end if;
    return (select string_agg(
                case when s.c collate "C" ~ '[A-Za-z0-9_.-]' then s.c
                     when s.c = ' ' then '+'
                     else regexp_replace(encode(convert_to(s.c, 'UTF8'), 'hex'), '(..)', '%\1', 'g')
                end, '' order by s.n)
              from regexp_split_to_table(i_text, '') with ordinality s (c, n));
end;
$$ language plpgsql immutable strict set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq._urlencode(i_text text) is 'Percent-encodes a text the way logutriga events carry it: letters, digits, underscore, dot and minus stay, a blank becomes a plus sign, every other byte of the UTF-8 form becomes %xx in lower case.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/_urlencode.sql', 'c34652be315213018c0cca6896b18e1866b38fa57c0217384a189a2573a0e2f7', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/_urlencode.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/_urlencode.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = '_urlencode' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/_trigger_options.sql
create or replace function pgq._trigger_options(i_args text[])
returns jsonb as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._trigger_options(1)
    --
    --     Reads the arguments of a change capture trigger. Names are exact;
    --     anything unknown is refused rather than ignored.
    --
    -- Parameters:
    --     i_args - TG_ARGV, starting at index 0 with the queue name
    --
    -- Returns:
    --     object with the keys given: skip, backup, deny (true), ignore and
    --     pkey (arrays of column names), when and ev_type to ev_extra4 (SQL
    --     expressions)
    --
    -- Raises:
    --     queue name missing; unknown argument
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_options jsonb := '{}';
    v_name    text;
    v_value   text;
begin
    if i_args[0] is null then
        raise exception 'trigger argument missing: queue name' using errcode = 'invalid_parameter_value';
    end if;
    for i in 1 .. coalesce(array_upper(i_args, 1), 0) loop
        if i_args[i] in ('SKIP', 'backup', 'deny') then
            v_options := v_options || jsonb_build_object(lower(i_args[i]), true);
            continue;
        end if;
        v_name := split_part(i_args[i], '=', 1);
        v_value := substr(i_args[i], length(v_name) + 2);
        if position('=' in i_args[i]) = 0 then
            v_name := null;
        end if;
        case
            when v_name in ('ignore', 'pkey') then
                v_options := v_options || jsonb_build_object(v_name, (
                    select coalesce(jsonb_agg(btrim(c)), '[]') from unnest(string_to_array(v_value, ',')) c));
            when v_name in ('when', 'ev_type', 'ev_data', 'ev_extra1', 'ev_extra2', 'ev_extra3', 'ev_extra4') then
                v_options := v_options || jsonb_build_object(v_name, v_value);
            else
                raise exception 'unknown trigger argument: %', i_args[i]
                    using errcode = 'invalid_parameter_value',
                          hint = 'Known: SKIP, backup, deny, ignore=, pkey=, when=, ev_type=, ev_data=, ev_extra1= to ev_extra4=.';
        end case;
    end loop;
    return v_options;
end;
$$ language plpgsql immutable set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq._trigger_options(i_args text[]) is 'Reads the arguments of a change capture trigger.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/_trigger_options.sql', 'b3aaa43cea05501ec6d88c565c1c3cf00e359751c87079f8579ebb1453057e64', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/_trigger_options.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/_trigger_options.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = '_trigger_options' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/_trigger_columns.sql
create or replace function pgq._trigger_columns(
    in i_table oid, in i_options jsonb,
    out col_no integer, out col_name text, out col_type oid, out key_no integer, out is_data boolean,
    out magic text, out new_text text, out old_text text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._trigger_columns(2)
    --
    --     The columns of a table as its capture trigger sees them, under their
    --     current names. Values are rendered by the output function of their
    --     type, not by a cast: char(n) keeps its blanks, boolean is t or f.
    --
    -- Parameters:
    --     i_table   - table
    --     i_options - from pgq._trigger_options
    --
    -- Returns:
    --     one row for each column in table order: col_no, col_name, col_type,
    --     key_no (place in the key, null: not in it), is_data (part of the
    --     event's data), magic (event field that the column replaces, or
    --     null), new_text and old_text (SQL for the value as text, null for
    --     null: $1 is the new row, or the old one of a delete; $2 the old row)
    --
    -- Raises:
    --     column with an unknown name in _pgq_ev_
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_key text[];
begin
    if i_options ? 'pkey' then
        v_key := array(select jsonb_array_elements_text(i_options -> 'pkey'));
    else
        v_key := array(
            select a.attname::text
              from pg_index i
             cross join lateral unnest(i.indkey::smallint[]) with ordinality k (attnum, n)
              join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
             where i.indrelid = i_table
               and i.indisprimary
             order by k.n);
    end if;
    for col_no, col_name, col_type, new_text in
        select a.attnum, a.attname, a.atttypid,
               case when a.atttypid in ('text'::regtype, 'varchar'::regtype) then '(%s).%I::text'
                    else 'case when pg_catalog.num_nulls((%s).%I) = 0 then pg_catalog.format(''%%s'', (%1$s).%2$I) end' end
          from pg_attribute a
         where a.attrelid = i_table
           and a.attnum > 0
           and not a.attisdropped
         order by a.attnum
    loop
        old_text := format(new_text, '$2', col_name);
        new_text := format(new_text, '$1', col_name);
        key_no := array_position(v_key, col_name);
        magic := case when starts_with(col_name, '_pgq_ev_') then substr(col_name, 6) end;
        if magic not in ('ev_type', 'ev_data', 'ev_extra1', 'ev_extra2', 'ev_extra3', 'ev_extra4') then
            raise exception 'unknown magic column: %', col_name using errcode = 'invalid_column_definition';
        end if;
        is_data := magic is null and not coalesce(i_options -> 'ignore' ? col_name, false);
        return next;
    end loop;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq._trigger_columns(in i_table oid, in i_options jsonb, out col_no integer, out col_name text, out col_type oid, out key_no integer, out is_data boolean, out magic text, out new_text text, out old_text text) is 'The columns of a table as its capture trigger sees them, under their current names.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/_trigger_columns.sql', 'cf345e44a0b896ff53bd49d1818cc8126d11f93f0fd9721fa33f1f2bd60f14f7', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/_trigger_columns.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/_trigger_columns.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = '_trigger_columns' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/_trigger_json_type.sql
create or replace function pgq._trigger_json_type(i_table oid, i_op text, i_key_json text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._trigger_json_type(3)
    --
    --     Event type of jsontriga.
    --
    -- Parameters:
    --     i_table    - table
    --     i_op       - TG_OP
    --     i_key_json - key columns as a JSON array
    --
    -- Returns:
    --     {"op":..,"table":[schema,table],"pkey":[..]} without blanks
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return (select format('{"op":"%s","table":[%s,%s],"pkey":%s}', i_op,
                          to_json(n.nspname::text), to_json(r.relname::text),
                          (select '[' || coalesce(string_agg(to_json(k)::text, ','), '') || ']'
                             from json_array_elements_text(i_key_json::json) k))
              from pg_class r
              join pg_namespace n on n.oid = r.relnamespace
             where r.oid = i_table);
end;
$$ language plpgsql stable set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq._trigger_json_type(i_table oid, i_op text, i_key_json text) is 'Event type of jsontriga.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/_trigger_json_type.sql', 'e66a57f7a5251d3b0a50165c9f00e9e2ae17e889dc2d11339857399d8e2b8202', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/_trigger_json_type.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/_trigger_json_type.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = '_trigger_json_type' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/_trigger_data_sql.sql
create or replace function pgq._trigger_data_sql(i_kind text, i_table oid, i_op text, i_options jsonb, i_row text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._trigger_data_sql(5)
    --
    --     SQL expression for the data of a change event: the whole row url
    --     encoded (logutriga) or as a JSON object (jsontriga), or the rest of
    --     an SQL statement (sqltriga).
    --
    -- Parameters:
    --     i_kind    - logutriga, sqltriga or jsontriga
    --     i_table   - table
    --     i_op      - INSERT, UPDATE or DELETE
    --     i_options - from pgq._trigger_options
    --     i_row     - $1 or $2, the row to render
    --
    -- Returns:
    --     expression of type text
    --
    -- Raises:
    --     unknown magic column
    --
    -- Calls:
    --     pgq._trigger_columns(2), pgq._urlencode(1)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_sql   text;
    v_key   text;
    v_first text;
begin
    case i_kind
    when 'logutriga' then
        select string_agg(format('coalesce(%L || pgq._urlencode(%s), %L)',
                                 pgq._urlencode(c.col_name) || '=',
                                 case i_row when '$1' then c.new_text else c.old_text end,
                                 pgq._urlencode(c.col_name)),
                          ' || ''&'' || ' order by c.col_no)
          into v_sql
          from pgq._trigger_columns(i_table, i_options) c
         where c.is_data;
        return coalesce(v_sql, '''''');
    when 'jsontriga' then
        select string_agg(
                   quote_literal(to_json(c.col_name)::text || ':') || ' || coalesce(' ||
                   case when c.col_type in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
                        then case i_row when '$1' then c.new_text else c.old_text end
                        when c.col_type in ('bool'::regtype, 'date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
                        then format('pg_catalog.to_json((%s).%I)::text', i_row, c.col_name)
                        else 'pg_catalog.to_json(' || case i_row when '$1' then c.new_text else c.old_text end || ')::text'
                   end || ', ''null'')',
                   ' || '','' || ' order by c.col_no)
          into v_sql
          from pgq._trigger_columns(i_table, i_options) c
         where c.is_data;
        return coalesce('''{'' || ' || v_sql || ' || ''}''', '''{}''');
    else
        select string_agg(format('%L || pg_catalog.quote_literal(%s)', quote_ident(c.col_name) || '=', c.old_text),
                          ' || '' and '' || ' order by c.col_no) filter (where c.key_no is not null),
               (array_agg(format('%L || pg_catalog.quote_literal(%s)', quote_ident(c.col_name) || '=', c.new_text)
                          order by c.col_no) filter (where c.key_no is not null))[1],
               case i_op
               when 'INSERT' then
                   quote_literal('(' || string_agg(quote_ident(c.col_name), ',' order by c.col_no) filter (where c.is_data)
                                 || ') values (') || ' || ' ||
                   string_agg(format('coalesce(pg_catalog.quote_literal(%s), ''null'')', c.new_text), ' || '','' || ' order by c.col_no)
                       filter (where c.is_data) || ' || '')'''
               when 'UPDATE' then
                   'pg_catalog.concat_ws('','', ' ||
                   string_agg(format('case when (%s) is distinct from (%s) then %L || coalesce(pg_catalog.quote_literal(%1$s), ''NULL'') end',
                                     c.new_text, c.old_text, quote_ident(c.col_name) || '='), ', ' order by c.col_no)
                       filter (where c.is_data) || ')'
               end
          into v_key, v_first, v_sql
          from pgq._trigger_columns(i_table, i_options) c;
        return case i_op
            when 'INSERT' then coalesce(v_sql, '''() values ()''')
            when 'UPDATE' then format('coalesce(nullif(%s, ''''), %s) || '' where '' || %s', coalesce(v_sql, ''''''), v_first, v_key)
            else v_key end;
    end case;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq._trigger_data_sql(i_kind text, i_table oid, i_op text, i_options jsonb, i_row text) is 'SQL expression for the data of a change event: the whole row url encoded (logutriga) or as a JSON object (jsontriga), or the rest of an SQL statement (sqltriga).';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/_trigger_data_sql.sql', '949a7a96ed19caa44f4e916b6950eae667cf811fecaf30c46a0de7bdf0b4d4ce', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/_trigger_data_sql.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/_trigger_data_sql.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = '_trigger_data_sql' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/_trigger_event_sql.sql
create or replace function pgq._trigger_event_sql(i_kind text, i_table oid, i_op text, i_options jsonb)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._trigger_event_sql(4)
    --
    --     SQL that makes the event of one row change: one query whose whole
    --     text depends on the table only, its parameters are the rows.
    --
    -- Parameters:
    --     i_kind    - logutriga, sqltriga or jsontriga
    --     i_table   - table
    --     i_op      - INSERT, UPDATE or DELETE
    --     i_options - from pgq._trigger_options
    --
    -- Returns:
    --     SELECT of wanted, changed, logged_changed, key_changed, key_null
    --     (boolean), ev_type, ev_data, ev_extra1 to ev_extra4 (text). $1 is
    --     the new row (old one of a delete), $2 the old row
    --
    -- Raises:
    --     unknown magic column; no key for an update or delete
    --
    -- Calls:
    --     pgq._trigger_columns(2), pgq._trigger_data_sql(5),
    --     pgq._trigger_json_type(3)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_cols    record;
    v_fields  jsonb;
    v_field   text;
    v_expr    text;
    v_columns text := '';
begin
    select count(c.key_no) as keys,
           coalesce(string_agg(c.col_name, ',' order by c.key_no) filter (where c.key_no is not null), '') as key_list,
           coalesce(json_agg(c.col_name order by c.key_no) filter (where c.key_no is not null), '[]')::text as key_json,
           coalesce(string_agg(format('(%s) is distinct from (%s)', c.new_text, c.old_text), ' or '), 'false') as changed,
           coalesce(string_agg(format('(%s) is distinct from (%s)', c.new_text, c.old_text), ' or ')
                    filter (where not coalesce(i_options -> 'ignore' ? c.col_name, false)), 'false') as logged_changed,
           coalesce(string_agg(format('(%s) is distinct from (%s)', c.new_text, c.old_text), ' or ')
                    filter (where c.key_no is not null), 'false') as key_changed,
           coalesce(string_agg(format('(%s) is null', c.new_text), ' or ')
                    filter (where c.key_no is not null), 'false') as key_null,
           coalesce(jsonb_object_agg(c.magic, c.new_text) filter (where c.magic is not null), '{}') as magic
      into v_cols
      from pgq._trigger_columns(i_table, i_options) c;
    if i_op <> 'INSERT' and v_cols.keys = 0 then
        raise exception 'table % has no primary key, % cannot be logged', i_table::regclass, lower(i_op)
            using errcode = 'object_not_in_prerequisite_state', hint = 'Add a key, or name columns with pkey=.';
    end if;

    v_fields := jsonb_build_object(
        'ev_type', case i_kind
            when 'logutriga' then quote_literal(left(i_op, 1) || ':' || v_cols.key_list)
            when 'sqltriga' then quote_literal(left(i_op, 1))
            else quote_literal(pgq._trigger_json_type(i_table, i_op, v_cols.key_json)) end,
        'ev_data', pgq._trigger_data_sql(i_kind, i_table, i_op, i_options, '$1'),
        'ev_extra1', (select quote_literal(n.nspname || '.' || r.relname)
                        from pg_class r join pg_namespace n on n.oid = r.relnamespace where r.oid = i_table),
        'ev_extra2', case when i_op = 'UPDATE' and i_options ? 'backup'
            then pgq._trigger_data_sql(
                case i_kind when 'jsontriga' then i_kind else 'logutriga' end, i_table, 'DELETE', i_options, '$2')
            else 'null' end,
        'ev_extra3', 'null',
        'ev_extra4', 'null') || v_cols.magic;
    foreach v_field in array array['ev_type', 'ev_data', 'ev_extra1', 'ev_extra2', 'ev_extra3', 'ev_extra4'] loop
        v_expr := v_fields ->> v_field;
        if i_options ? v_field then
            v_expr := format('(select case when pg_catalog.num_nulls(y.x) = 0 then pg_catalog.format(''%%s'', y.x) end'
                             ' from (select %s as x from (select ($1).*) r) y)', i_options ->> v_field);
        end if;
        v_columns := v_columns || ', (' || v_expr || ')::text as ' || v_field;
    end loop;
    return 'select '
        || coalesce('(select (' || (i_options ->> 'when') || ') from (select ($1).*) r)', 'true') || ' as wanted, '
        || case when i_op = 'UPDATE'
                then format('(%s) as changed, (%s) as logged_changed, (%s) as key_changed, ',
                            v_cols.changed, v_cols.logged_changed, v_cols.key_changed)
                else 'true as changed, true as logged_changed, false as key_changed, ' end
        || case when i_op = 'INSERT' then 'false' else '(' || v_cols.key_null || ')' end || ' as key_null'
        || v_columns;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq._trigger_event_sql(i_kind text, i_table oid, i_op text, i_options jsonb) is 'SQL that makes the event of one row change: one query whose whole text depends on the table only, its parameters are the rows.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/_trigger_event_sql.sql', 'e1d0e95f8f2f6d673e606e626ec813e39c225fbe5c03cf1514b646881380543b', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/_trigger_event_sql.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/_trigger_event_sql.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = '_trigger_event_sql' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/_trigger_truncate.sql
create or replace function pgq._trigger_truncate(i_kind text, i_table oid, i_options jsonb, i_queue_name text)
returns void as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._trigger_truncate(4)
    --
    --     Writes the event of a truncate.
    --
    -- Parameters:
    --     i_kind       - logutriga, sqltriga or jsontriga
    --     i_table      - table
    --     i_options    - from pgq._trigger_options
    --     i_queue_name - queue name
    --
    -- Returns:
    --     nothing
    --
    -- Raises:
    --     arguments that need a row; as pgq.insert_event(7)
    --
    -- Calls:
    --     pgq._trigger_columns(2), pgq._trigger_json_type(3),
    --     pgq.insert_event(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_event(7)
    -- ----------------------------------------------------------------
declare
    v_row_options text;
    v_key         text;
begin
    select string_agg(k, ', ' order by k) into v_row_options
      from jsonb_object_keys(i_options) k
     where k <> 'skip';
    if v_row_options is not null then
        raise exception 'truncate trigger on table %: arguments need a row: %', i_table::regclass, v_row_options
            using errcode = 'invalid_parameter_value';
    end if;
    if i_kind = 'jsontriga' then
        select coalesce(json_agg(c.col_name order by c.key_no), '[]')::text into v_key
          from pgq._trigger_columns(i_table, i_options) c
         where c.key_no is not null;
    end if;
    perform pgq.insert_event(
        i_queue_name,
        case i_kind when 'jsontriga' then pgq._trigger_json_type(i_table, 'TRUNCATE', v_key) else 'R' end,
        case i_kind when 'jsontriga' then '{}' else '' end,
        (select n.nspname || '.' || r.relname
           from pg_class r join pg_namespace n on n.oid = r.relnamespace where r.oid = i_table),
        null, null, null);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

comment on function pgq._trigger_truncate(i_kind text, i_table oid, i_options jsonb, i_queue_name text) is 'Writes the event of a truncate.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/_trigger_truncate.sql', '7716d995d49fe92bf898338f18948e0a45afe9ffafb56683fbcc8745158ecccc', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/_trigger_truncate.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/_trigger_truncate.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = '_trigger_truncate' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/functions/_trigger_run.sql
create or replace function pgq._trigger_run(
    i_kind text, i_table oid, i_op text, i_when text, i_args text[], i_new anyelement, i_old anyelement)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._trigger_run(7)
    --
    --     Writes the event of one row change or one truncate; the common part
    --     of the change capture triggers.
    --
    -- Parameters:
    --     i_kind  - logutriga, sqltriga or jsontriga
    --     i_table - TG_RELID
    --     i_op    - TG_OP
    --     i_when  - TG_WHEN
    --     i_args  - TG_ARGV
    --     i_new   - new row; of a delete the old one
    --     i_old   - old row; of an insert the new one
    --
    -- Returns:
    --     true when the change shall be done, false when SKIP prevents it
    --
    -- Raises:
    --     denied; bad arguments; key changed; no key, or null in it; when= is
    --     null; as pgq.insert_event(7)
    --
    -- Calls:
    --     pgq._trigger_options(1), pgq._trigger_event_sql(4),
    --     pgq._trigger_truncate(4), pgq.insert_event(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_event(7)
    -- ----------------------------------------------------------------
declare
    v_options jsonb;
    v_event   record;
    v_name    text := i_table::regclass;
begin
    if current_setting('session_replication_role') = 'local' then
        return true;
    end if;
    v_options := pgq._trigger_options(i_args);
    if v_options ? 'deny' then
        raise exception 'table % is closed for changes: % denied by trigger', v_name, lower(i_op)
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if v_options ? 'skip' and i_when = 'AFTER' then
        raise exception 'trigger on table %: SKIP works in a BEFORE trigger only', v_name
            using errcode = 'invalid_parameter_value';
    end if;
    if i_op = 'TRUNCATE' then
        perform pgq._trigger_truncate(i_kind, i_table, v_options, i_args[0]);
        return true;
    end if;

    execute pgq._trigger_event_sql(i_kind, i_table, i_op, v_options) into v_event using i_new, i_old;
    if v_event.wanted is null then
        raise exception 'trigger on table %: when= gives null', v_name using errcode = 'null_value_not_allowed';
    end if;
    if v_event.key_changed then
        raise exception 'update of the key of table % cannot be logged', v_name
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if v_event.key_null and i_kind = 'sqltriga' then
        raise exception 'null in the key of table % cannot be logged', v_name
            using errcode = 'null_value_not_allowed';
    end if;
    if v_event.wanted
       and (v_event.logged_changed or not v_event.changed or not v_options ? 'ignore') then
        perform pgq.insert_event(i_args[0], v_event.ev_type, v_event.ev_data, v_event.ev_extra1,
                                 v_event.ev_extra2, v_event.ev_extra3, v_event.ev_extra4);
    end if;
    return not v_options ? 'skip';
end;
$$ language plpgsql volatile;

comment on function pgq._trigger_run(i_kind text, i_table oid, i_op text, i_when text, i_args text[], i_new anyelement, i_old anyelement) is 'Writes the event of one row change or one truncate; the common part of the change capture triggers.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'functions/_trigger_run.sql', 'ce411691061867b0e3307713cfe12f212c3be7bbdbd05373feb332c87b6608ec', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq' and path = 'functions/_trigger_run.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq', p.oid::pg_catalog.regprocedure::text, 'functions/_trigger_run.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq' and p.proname = '_trigger_run' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq/grants.sql
-- Rights of the PgQ contract, section 11. Everything is taken away first, so
-- that a second run ends in the same state as the first.
grant usage on schema pgq to public;

do $$
declare
    v_func regprocedure;
begin
    for v_func in
        select p.oid from pg_catalog.pg_proc p where p.pronamespace = 'pgq'::regnamespace
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
    pgq.find_tick_helper(integer, bigint, timestamptz, bigint, bigint, interval)
to pgq_reader;

-- producers
grant execute on function
    pgq.insert_event(text, text, text),
    pgq.insert_event(text, text, text, text, text, text, text),
    pgq.current_event_table(text),
    pgq.logutriga(), pgq.sqltriga(), pgq.jsontriga(),
    pgq._trigger_options(text[]), pgq._trigger_columns(oid, jsonb),
    pgq._trigger_event_sql(text, oid, text, jsonb), pgq._trigger_data_sql(text, oid, text, jsonb, text),
    pgq._trigger_json_type(oid, text, text), pgq._trigger_truncate(text, oid, jsonb, text),
    pgq._trigger_run(text, oid, text, text, text[], anyelement, anyelement),
    pgq._pin_queue(text), pgq._urlencode(text)
to pgq_writer;

-- administration and the ticker
grant execute on function
    pgq.ticker(), pgq.ticker(text), pgq.ticker(text, bigint, timestamptz, bigint),
    pgq.maint_retry_events(), pgq.maint_rotate_tables_step1(text), pgq.maint_rotate_tables_step2(),
    pgq.maint_tables_to_vacuum(), pgq.maint_operations(), pgq.upgrade_schema(),
    pgq._has_function(text, text), pgq._check_tx_limit(integer, integer, bigint),
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

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq', 'grants.sql', 'bdba68c96ee016bb2c074562bea9dc8a06cd0b66370d582d416608bf0f0a20a3', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;

-- Schema pgq_coop

do $skyd$
declare
    v_recorded  boolean := false;
    v_state     record;
begin
    select * into v_state from (select s.name, n.oid is not null,
       coalesce(pg_catalog.pg_get_userbyid(n.nspowner)::text, ''),
       n.oid is not null and pg_catalog.pg_has_role(n.nspowner, 'USAGE'),
       coalesce((
           select e.extname || ' ' || e.extversion
           from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid
           where d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and d.deptype = 'e'
             and (d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.objid = n.oid
                  or d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                     and d.objid in (select p.oid from pg_catalog.pg_proc p where p.pronamespace = n.oid))
           limit 1), ''),
       exists (select 1 from pg_catalog.pg_class c where c.relnamespace = n.oid)
       or exists (select 1 from pg_catalog.pg_proc p where p.pronamespace = n.oid)
       or exists (select 1 from pg_catalog.pg_type t where t.typnamespace = n.oid),
       (select pg_catalog.count(*) = 4 from pg_catalog.pg_attribute a
        where (a.attrelid, a.attname) in (
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.queue'), 'queue_switch_step2'),
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.queue'), 'queue_data_pfx'),
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.subscription'), 'sub_last_tick'),
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.tick'), 'tick_snapshot')))
from pg_catalog.unnest('{pgq_coop}'::text[]) as s (name)
left join pg_catalog.pg_namespace n on n.nspname = s.name) as s (name, present, role, mine, extension, filled, original);
    if v_state.extension <> '' then
        raise exception 'schema pgq_coop belongs to extension %: leave it alone, skyd runs on it', v_state.extension;
    end if;
    if pg_catalog.to_regclass('skyd.schema_file') is not null then
        execute $$ select exists (select from skyd.schema_file where schema_name = 'pgq_coop' and path = 'tables.sql') $$
        into v_recorded;
    end if;
    if v_state.filled and not v_recorded then
        raise exception 'schema pgq_coop is there and is not from skyd; it belongs to role %', v_state.role;
    end if;
    perform pg_catalog.set_config('skyd.fresh_pgq_coop', (not v_state.filled)::text, true);
end
$skyd$;

-- File pgq_coop/schema.sql
do $$
begin
    -- not "if not exists": that raises a notice on every later install
    if not exists (select 1 from pg_catalog.pg_namespace where nspname = 'pgq_coop') then
        create schema pgq_coop;
    end if;
end
$$;

comment on schema pgq_coop is 'cooperative consumers: several workers behind one consumer (skyd)';
delete from skyd.schema_file where schema_name = 'pgq_coop' and pg_catalog.current_setting('skyd.fresh_pgq_coop')::boolean;
delete from skyd.schema_function where schema_name = 'pgq_coop' and pg_catalog.current_setting('skyd.fresh_pgq_coop')::boolean;

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_coop', 'schema.sql', '367d8d72cf7230f65e975669831e220e779d7179eeec159f26868862f878b0a0', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;

-- File pgq_coop/tables.sql
do $skyd$
declare
    v_fresh     boolean := pg_catalog.current_setting('skyd.fresh_pgq_coop')::boolean;
    v_recorded  boolean := false;
begin
    if not v_fresh then
        v_recorded := exists (select from skyd.schema_file where schema_name = 'pgq_coop' and path = 'tables.sql');
    end if;
    if v_fresh then
        execute $shape$
-- No tables: the state of a group lives in pgq.subscription.
$shape$;
    end if;
end
$skyd$;

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_coop', 'tables.sql', '265d6e146527a3be4690247fd1cd82d83bf2f0e03aa5858313821c3c89489ea9', 'bundle')
on conflict (schema_name, path) do nothing;

-- File pgq_coop/functions/register_subconsumer.sql
create or replace function pgq_coop.register_subconsumer(i_queue_name text, i_consumer_name text, i_subconsumer_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop.register_subconsumer(3)
    --
    --     Adds a member to a cooperative group. The main consumer is
    --     registered at the newest tick when it is missing. The member's name
    --     on the queue is <consumer>.<subconsumer>; it shares the sub_id of
    --     the main consumer, so retry events reach the group.
    --
    --     Security definer: consumers have no right to write the
    --     subscriptions.
    --
    -- Parameters:
    --     i_queue_name       - queue name
    --     i_consumer_name    - name of the main consumer
    --     i_subconsumer_name - name of the subconsumer in its group
    --
    -- Returns:
    --     1 - added
    --     0 - was a member already
    --
    -- Raises:
    --     queue not found; a name is null; another consumer has the member's
    --     name
    --
    -- Calls:
    --     pgq.register_consumer(2), pgq_coop._lock_name(1),
    --     pgq_coop._lock_main(2)
    --
    -- Tables:
    --     read   - pgq.subscription
    --     insert - pgq.subscription
    --
    -- Locks:
    --     the rows of both names, the main consumer's subscription row; waits
    --     for other members
    -- ----------------------------------------------------------------
declare
    v_main     pgq.subscription%rowtype;
    v_name     text := i_consumer_name || '.' || i_subconsumer_name;
    v_consumer integer;
    v_owner    integer;
begin
    if v_name is null then
        raise exception 'consumer or subconsumer name is null' using errcode = 'null_value_not_allowed';
    end if;
    -- the C extension cannot register one name twice at once
    perform pgq_coop._lock_name(i_consumer_name);
    perform pgq.register_consumer(i_queue_name, i_consumer_name);
    v_main := pgq_coop._lock_main(i_queue_name, i_consumer_name);

    v_consumer := pgq_coop._lock_name(v_name);
    select s.sub_id into v_owner
      from pgq.subscription s
     where s.sub_queue = v_main.sub_queue and s.sub_consumer = v_consumer;
    if v_owner <> v_main.sub_id then
        raise exception 'consumer % on queue % exists and is no member of group %',
                v_name, i_queue_name, i_consumer_name
            using errcode = 'duplicate_object', hint = 'Use another subconsumer name.';
    end if;
    if v_owner is not null then
        return 0;
    end if;
    insert into pgq.subscription (sub_id, sub_queue, sub_consumer, sub_last_tick)
    values (v_main.sub_id, v_main.sub_queue, v_consumer, null);
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_coop, pg_temp;

comment on function pgq_coop.register_subconsumer(i_queue_name text, i_consumer_name text, i_subconsumer_name text) is 'Adds a member to a cooperative group.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_coop', 'functions/register_subconsumer.sql', 'ebbbd4404f8784b7a7c0a0d30ed51851fc97babcd0ea65d5978fbbda26d6f8ca', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_coop' and path = 'functions/register_subconsumer.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_coop', p.oid::pg_catalog.regprocedure::text, 'functions/register_subconsumer.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_coop' and p.proname = 'register_subconsumer' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_coop/functions/unregister_subconsumer.sql
create or replace function pgq_coop.unregister_subconsumer(i_queue_name text, i_consumer_name text, i_subconsumer_name text, i_batch_handling integer)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop.unregister_subconsumer(4)
    --
    --     Removes a member from its group. The retry events of the group stay.
    --
    --     Security definer: consumers have no right to write the
    --     subscriptions.
    --
    -- Parameters:
    --     i_queue_name       - queue name
    --     i_consumer_name    - name of the main consumer
    --     i_subconsumer_name - name of the subconsumer in its group
    --     i_batch_handling   - 1: drop the member's open batch, the group will
    --                          not see its events; anything else: refuse while
    --                          a batch is open
    --
    -- Returns:
    --     1 - removed
    --     0 - there was no such member
    --
    -- Raises:
    --     the member has an open batch and i_batch_handling is not 1
    --
    -- Calls:
    --     pgq.unregister_consumer(2), pgq_coop._lock_main(2)
    --
    -- Tables:
    --     read   - pgq.subscription, pgq.consumer
    --
    -- Locks:
    --     the main consumer's subscription row; waits for other members
    -- ----------------------------------------------------------------
declare
    v_main  pgq.subscription%rowtype := pgq_coop._lock_main(i_queue_name, i_consumer_name);
    v_name  text := i_consumer_name || '.' || i_subconsumer_name;
    v_batch bigint;
begin
    select s.sub_batch into v_batch
      from pgq.subscription s
      join pgq.consumer c on c.co_id = s.sub_consumer
     where s.sub_queue = v_main.sub_queue
       and s.sub_id = v_main.sub_id
       and c.co_name = v_name;
    if not found then
        return 0;
    end if;
    if v_batch is not null and i_batch_handling is distinct from 1 then
        raise exception 'subconsumer % of consumer % on queue % has an open batch: %',
                i_subconsumer_name, i_consumer_name, i_queue_name, v_batch
            using errcode = 'object_in_use',
                  hint = 'Finish it, or pass 1 to drop it: the group then skips its events.';
    end if;
    return pgq.unregister_consumer(i_queue_name, v_name);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_coop, pg_temp;

comment on function pgq_coop.unregister_subconsumer(i_queue_name text, i_consumer_name text, i_subconsumer_name text, i_batch_handling integer) is 'Removes a member from its group.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_coop', 'functions/unregister_subconsumer.sql', '6dfa33ff24cc49f70bae0c2e38f628ae5eaa36411434ead3a8ce8e239d22b3a4', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_coop' and path = 'functions/unregister_subconsumer.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_coop', p.oid::pg_catalog.regprocedure::text, 'functions/unregister_subconsumer.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_coop' and p.proname = 'unregister_subconsumer' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_coop/functions/next_batch.sql
create or replace function pgq_coop.next_batch(i_queue_name text, i_consumer_name text, i_subconsumer_name text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop.next_batch(3)
    --
    --     Opens a batch for a member of a cooperative group. Until it is
    --     finished every call gives the same batch and is a sign of life.
    --
    -- Parameters:
    --     i_queue_name       - queue name
    --     i_consumer_name    - name of the main consumer
    --     i_subconsumer_name - name of the subconsumer in its group
    --
    -- Returns:
    --     batch id, or null when there is nothing
    --
    -- Raises:
    --     queue not found; the main consumer has an open batch of its own; its
    --     position tick is gone
    --
    -- Calls:
    --     pgq_coop.next_batch_custom(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq_coop.next_batch_custom(7)
    -- ----------------------------------------------------------------
begin
    return pgq_coop.next_batch_custom(i_queue_name, i_consumer_name, i_subconsumer_name, null, null, null, null);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_coop, pg_temp;

create or replace function pgq_coop.next_batch(i_queue_name text, i_consumer_name text, i_subconsumer_name text, i_dead_interval interval)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop.next_batch(4)
    --
    --     As pgq_coop.next_batch(3), and takes over the batch of a member that
    --     is dead.
    --
    -- Parameters:
    --     i_queue_name       - queue name
    --     i_consumer_name    - name of the main consumer
    --     i_subconsumer_name - name of the subconsumer in its group
    --     i_dead_interval    - members silent for longer lose their batch;
    --                          null: none do
    --
    -- Returns:
    --     batch id, or null when there is nothing
    --
    -- Raises:
    --     queue not found; the main consumer has an open batch of its own; its
    --     position tick is gone
    --
    -- Calls:
    --     pgq_coop.next_batch_custom(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq_coop.next_batch_custom(7)
    -- ----------------------------------------------------------------
begin
    return pgq_coop.next_batch_custom(i_queue_name, i_consumer_name, i_subconsumer_name, null, null, null, i_dead_interval);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_coop, pg_temp;

comment on function pgq_coop.next_batch(i_queue_name text, i_consumer_name text, i_subconsumer_name text) is 'Opens a batch for a member of a cooperative group.';

comment on function pgq_coop.next_batch(i_queue_name text, i_consumer_name text, i_subconsumer_name text, i_dead_interval interval) is 'As pgq_coop.next_batch(3), and takes over the batch of a member that is dead.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_coop', 'functions/next_batch.sql', 'fbdcf581f7782f875da638a2c9c48b1fc8be03129ccda229920570edabd6fefe', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_coop' and path = 'functions/next_batch.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_coop', p.oid::pg_catalog.regprocedure::text, 'functions/next_batch.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_coop' and p.proname = 'next_batch' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_coop/functions/next_batch_custom.sql
create or replace function pgq_coop.next_batch_custom(i_queue_name text, i_consumer_name text, i_subconsumer_name text, i_min_lag interval, i_min_count int4, i_min_interval interval)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop.next_batch_custom(6)
    --
    --     Opens a batch for a member with wishes for its size.
    --
    -- Parameters:
    --     i_queue_name       - queue name
    --     i_consumer_name    - name of the main consumer
    --     i_subconsumer_name - name of the subconsumer in its group
    --     i_min_lag          - the end tick must be at least this old
    --     i_min_count        - events wanted at least, by the event counter
    --     i_min_interval     - time the batch shall span at least
    --
    -- Returns:
    --     batch id, or null when there is nothing
    --
    -- Raises:
    --     queue not found; the main consumer has an open batch of its own; its
    --     position tick is gone
    --
    -- Calls:
    --     pgq_coop.next_batch_custom(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq_coop.next_batch_custom(7)
    -- ----------------------------------------------------------------
begin
    return pgq_coop.next_batch_custom(i_queue_name, i_consumer_name, i_subconsumer_name,
                                      i_min_lag, i_min_count, i_min_interval, null);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_coop, pg_temp;

create or replace function pgq_coop.next_batch_custom(i_queue_name text, i_consumer_name text, i_subconsumer_name text, i_min_lag interval, i_min_count int4, i_min_interval interval, i_dead_interval interval)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop.next_batch_custom(7)
    --
    --     Opens a batch for a member of a cooperative group: the open one if
    --     it has one, else that of a dead member, else the group's next one.
    --     Main consumer and member are registered when they are missing. The
    --     group's position advances at once, so batches may be finished in any
    --     order.
    --
    --     A batch that is taken over gets a new id. The dead member, should it
    --     come back, cannot close what its successor works on: its
    --     finish_batch answers 0.
    --
    --     Security definer: consumers have no right to write the
    --     subscriptions.
    --
    -- Parameters:
    --     i_queue_name       - queue name
    --     i_consumer_name    - name of the main consumer
    --     i_subconsumer_name - name of the subconsumer in its group
    --     i_min_lag          - the end tick must be at least this old
    --     i_min_count        - events wanted at least, by the event counter
    --     i_min_interval     - time the batch shall span at least
    --     i_dead_interval    - members silent for longer lose their batch;
    --                          null: none do
    --
    -- Returns:
    --     batch id, or null when there is nothing
    --
    -- Raises:
    --     queue not found; the main consumer has an open batch of its own; its
    --     position tick is gone
    --
    -- Calls:
    --     pgq_coop._lock_main(2), pgq_coop.register_subconsumer(3),
    --     pgq_coop._take_over(3), pgq_coop._next_tick(5)
    --
    -- Tables:
    --     read   - pgq.consumer, pgq.tick
    --     update - pgq.subscription
    --
    -- Locks:
    --     the main consumer's subscription row; waits for other members
    -- ----------------------------------------------------------------
declare
    v_main   pgq.subscription%rowtype := pgq_coop._lock_main(i_queue_name, i_consumer_name);
    v_member pgq.subscription%rowtype;
    v_tick   bigint;
begin
    select s.* into v_member
      from pgq.subscription s
      join pgq.consumer c on c.co_id = s.sub_consumer
     where s.sub_queue = v_main.sub_queue
       and s.sub_id = v_main.sub_id
       and c.co_name = i_consumer_name || '.' || i_subconsumer_name
       for no key update of s;
    if not found then
        perform pgq_coop.register_subconsumer(i_queue_name, i_consumer_name, i_subconsumer_name);
        v_main := pgq_coop._lock_main(i_queue_name, i_consumer_name);
        select s.* into v_member
          from pgq.subscription s
          join pgq.consumer c on c.co_id = s.sub_consumer
         where s.sub_queue = v_main.sub_queue
           and s.sub_id = v_main.sub_id
           and c.co_name = i_consumer_name || '.' || i_subconsumer_name;
    end if;
    if v_main.sub_batch is not null then
        raise exception 'main consumer % on queue % has an open batch of its own: %',
                i_consumer_name, i_queue_name, v_main.sub_batch
            using errcode = 'object_in_use', hint = 'Finish it with pgq.finish_batch.';
    end if;
    if v_member.sub_batch is not null then
        update pgq.subscription s
           set sub_active = now()
         where s.sub_queue = v_member.sub_queue and s.sub_consumer = v_member.sub_consumer;
        return v_member.sub_batch;
    end if;

    if i_dead_interval is not null and pgq_coop._take_over(v_main, v_member, i_dead_interval) then
        return (select s.sub_batch
                  from pgq.subscription s
                 where s.sub_queue = v_member.sub_queue and s.sub_consumer = v_member.sub_consumer);
    end if;

    v_tick := pgq_coop._next_tick(v_main, i_consumer_name, i_min_lag, i_min_count, i_min_interval);
    if v_tick is null then
        return null;
    end if;
    update pgq.subscription s
       set sub_last_tick = v_tick,
           sub_active = now()
     where s.sub_queue = v_main.sub_queue and s.sub_consumer = v_main.sub_consumer;
    update pgq.subscription s
       set sub_batch = nextval('pgq.batch_id_seq'),
           sub_last_tick = v_main.sub_last_tick,
           sub_next_tick = v_tick,
           sub_active = now()
     where s.sub_queue = v_member.sub_queue and s.sub_consumer = v_member.sub_consumer
    returning s.sub_batch into v_member.sub_batch;
    return v_member.sub_batch;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_coop, pg_temp;

comment on function pgq_coop.next_batch_custom(i_queue_name text, i_consumer_name text, i_subconsumer_name text, i_min_lag interval, i_min_count int4, i_min_interval interval) is 'Opens a batch for a member with wishes for its size.';

comment on function pgq_coop.next_batch_custom(i_queue_name text, i_consumer_name text, i_subconsumer_name text, i_min_lag interval, i_min_count int4, i_min_interval interval, i_dead_interval interval) is 'Opens a batch for a member of a cooperative group: the open one if it has one, else that of a dead member, else the group''s next one.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_coop', 'functions/next_batch_custom.sql', '725617547a744a6f4345dd7977917bf1f3ebc7c69b69f21dddf0ff009105a10b', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_coop' and path = 'functions/next_batch_custom.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_coop', p.oid::pg_catalog.regprocedure::text, 'functions/next_batch_custom.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_coop' and p.proname = 'next_batch_custom' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_coop/functions/finish_batch.sql
create or replace function pgq_coop.finish_batch(i_batch_id bigint)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop.finish_batch(1)
    --
    --     Closes the batch of a member. The member keeps no position, which
    --     would hold back rotation. A batch of a plain consumer is closed as
    --     by pgq.finish_batch.
    --
    --     Security definer: consumers have no right to write the
    --     subscriptions.
    --
    -- Parameters:
    --     i_batch_id - batch of a member
    --
    -- Returns:
    --     1 - closed
    --     0 - not open, with a warning: it was closed or taken over, and what was done for it will be done again
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.finish_batch(1)
    --
    -- Tables:
    --     update - pgq.subscription
    --
    -- Locks:
    --     the member's subscription row
    -- ----------------------------------------------------------------
begin
    update pgq.subscription s
       set sub_active = now(),
           sub_last_tick = null,
           sub_next_tick = null,
           sub_batch = null
     where s.sub_batch = i_batch_id
       and exists (select 1
                     from pgq.subscription o
                    where o.sub_queue = s.sub_queue
                      and o.sub_id = s.sub_id
                      and o.sub_consumer <> s.sub_consumer);
    if found then
        return 1;
    end if;
    return pgq.finish_batch(i_batch_id);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_coop, pg_temp;

comment on function pgq_coop.finish_batch(i_batch_id bigint) is 'Closes the batch of a member.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_coop', 'functions/finish_batch.sql', 'be5129ea4253077c7f725ca08d75453e3c1e29ed70258db84d93e9ea74d2f363', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_coop' and path = 'functions/finish_batch.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_coop', p.oid::pg_catalog.regprocedure::text, 'functions/finish_batch.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_coop' and p.proname = 'finish_batch' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_coop/functions/touch.sql
create or replace function pgq_coop.touch(i_batch_id bigint)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop.touch(1)
    --
    --     Sign of life of a member that works on a batch for long. Without one
    --     the batch is taken over after the dead interval of the others.
    --
    --     Security definer: consumers have no right to write the
    --     subscriptions.
    --
    -- Parameters:
    --     i_batch_id - batch of a member
    --
    -- Returns:
    --     1 - noted
    --     0 - not open any more: stop working on it
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     update - pgq.subscription
    --
    -- Locks:
    --     the member's subscription row
    -- ----------------------------------------------------------------
begin
    update pgq.subscription s set sub_active = now() where s.sub_batch = i_batch_id;
    return case when found then 1 else 0 end;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_coop, pg_temp;

comment on function pgq_coop.touch(i_batch_id bigint) is 'Sign of life of a member that works on a batch for long.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_coop', 'functions/touch.sql', '345db7f6723983469f1c29ecad223b18b527538fa3dda433d2c62d53ec584299', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_coop' and path = 'functions/touch.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_coop', p.oid::pg_catalog.regprocedure::text, 'functions/touch.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_coop' and p.proname = 'touch' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_coop/functions/version.sql
create or replace function pgq_coop.version()
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop.version(0)
    --
    --     Version of the pgq_coop contract that this schema keeps.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     text that starts with the contract's version
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return '3.4-skyd';
end;
$$ language plpgsql immutable set search_path = pg_catalog, pgq_coop, pg_temp;

comment on function pgq_coop.version() is 'Version of the pgq_coop contract that this schema keeps.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_coop', 'functions/version.sql', '247b2e09cb189a52ec3b36166477795dfe5aacb31f4ee70dedbeb8777994885c', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_coop' and path = 'functions/version.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_coop', p.oid::pg_catalog.regprocedure::text, 'functions/version.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_coop' and p.proname = 'version' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_coop/functions/_lock_main.sql
create or replace function pgq_coop._lock_main(i_queue_name text, i_consumer_name text)
returns pgq.subscription as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop._lock_main(2)
    --
    --     Locks the subscription of the main consumer. Everything that changes
    --     a cooperative group takes this lock first, so the members of a group
    --     take turns.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - name of the main consumer
    --
    -- Returns:
    --     the row; all null when the consumer is not registered on the queue
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer, pgq.subscription
    --
    -- Locks:
    --     the main consumer's subscription row, until the transaction ends
    -- ----------------------------------------------------------------
declare
    v_main pgq.subscription%rowtype;
begin
    select s.* into v_main
      from pgq.subscription s
      join pgq.queue q on q.queue_id = s.sub_queue
      join pgq.consumer c on c.co_id = s.sub_consumer
     where q.queue_name = i_queue_name
       and c.co_name = i_consumer_name
       for no key update of s;
    return v_main;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_coop, pg_temp;

comment on function pgq_coop._lock_main(i_queue_name text, i_consumer_name text) is 'Locks the subscription of the main consumer.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_coop', 'functions/_lock_main.sql', 'd03312e5fd3d12f15dcb10ba160deb1cfd16c41768122818e8b16d78194e1977', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_coop' and path = 'functions/_lock_main.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_coop', p.oid::pg_catalog.regprocedure::text, 'functions/_lock_main.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_coop' and p.proname = '_lock_main' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_coop/functions/_lock_name.sql
create or replace function pgq_coop._lock_name(i_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop._lock_name(1)
    --
    --     Makes a consumer name if it is missing and locks it against removal
    --     and against other registrations.
    --
    -- Parameters:
    --     i_name - consumer name
    --
    -- Returns:
    --     its co_id
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     insert - pgq.consumer
    --
    -- Locks:
    --     the consumer's row, until the transaction ends
    -- ----------------------------------------------------------------
declare
    v_id integer;
begin
    -- the name may be removed between our insert and our lock: try again
    loop
        insert into pgq.consumer (co_name) values (i_name) on conflict (co_name) do nothing;
        select c.co_id into v_id from pgq.consumer c where c.co_name = i_name for no key update;
        exit when found;
    end loop;
    return v_id;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_coop, pg_temp;

comment on function pgq_coop._lock_name(i_name text) is 'Makes a consumer name if it is missing and locks it against removal and against other registrations.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_coop', 'functions/_lock_name.sql', '66093a921b9254ea672101588a7f867d26660724af488fa028ff53ea60c27444', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_coop' and path = 'functions/_lock_name.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_coop', p.oid::pg_catalog.regprocedure::text, 'functions/_lock_name.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_coop' and p.proname = '_lock_name' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_coop/functions/_next_tick.sql
create or replace function pgq_coop._next_tick(i_main pgq.subscription, i_consumer_name text, i_min_lag interval, i_min_count integer, i_min_interval interval)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop._next_tick(5)
    --
    --     Chooses the tick that ends the group's next batch, by the rules of
    --     pgq.next_batch_custom. Leans on nothing but the contract, so groups
    --     work on the C extension too.
    --
    -- Parameters:
    --     i_main          - subscription of the main consumer, locked by the
    --                       caller
    --     i_consumer_name - its name, for the message
    --     i_min_lag       - the end tick must be at least this old
    --     i_min_count     - events wanted at least, by the event counter
    --     i_min_interval  - time the batch shall span at least
    --
    -- Returns:
    --     tick id, or null when no batch fits yet
    --
    -- Raises:
    --     the position tick is gone
    --
    -- Calls:
    --     pgq.find_tick_helper(6)
    --
    -- Tables:
    --     read   - pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_prev pgq.tick%rowtype;
    v_next record;
begin
    select t.* into v_prev
      from pgq.tick t
     where t.tick_queue = i_main.sub_queue and t.tick_id = i_main.sub_last_tick;
    if not found then
        raise exception 'position of consumer % is gone: tick %',
                i_consumer_name, coalesce(i_main.sub_last_tick::text, '<null>')
            using errcode = 'object_not_in_prerequisite_state',
                  hint = 'Move it to an existing tick with pgq.register_consumer_at.';
    end if;
    if i_min_count is null and i_min_interval is null then
        select t.tick_id as next_tick_id, t.tick_time as next_tick_time into v_next
          from pgq.tick t
         where t.tick_queue = i_main.sub_queue and t.tick_id > v_prev.tick_id
         order by t.tick_id
         limit 1;
    else
        select f.next_tick_id, f.next_tick_time into v_next
          from pgq.find_tick_helper(i_main.sub_queue, v_prev.tick_id, v_prev.tick_time, v_prev.tick_event_seq,
                                    i_min_count, i_min_interval) f;
    end if;
    if now() - v_next.next_tick_time < i_min_lag then
        return null;
    end if;
    return v_next.next_tick_id;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_coop, pg_temp;

comment on function pgq_coop._next_tick(i_main pgq.subscription, i_consumer_name text, i_min_lag interval, i_min_count integer, i_min_interval interval) is 'Chooses the tick that ends the group''s next batch, by the rules of pgq.next_batch_custom.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_coop', 'functions/_next_tick.sql', '2a3b67383de2c0a886e12b228750691d189a6ad11dfa7b241614e5f60265b5c2', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_coop' and path = 'functions/_next_tick.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_coop', p.oid::pg_catalog.regprocedure::text, 'functions/_next_tick.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_coop' and p.proname = '_next_tick' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_coop/functions/_take_over.sql
create or replace function pgq_coop._take_over(i_main pgq.subscription, i_member pgq.subscription, i_dead_interval interval)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop._take_over(3)
    --
    --     Unregisters one dead member of a group and gives its open batch, if
    --     it has one, to another member under a new id. Members with a batch
    --     come first, the longest silent ones before others.
    --
    -- Parameters:
    --     i_main          - subscription of the main consumer, locked by the
    --                       caller
    --     i_member        - subscription of the member that asks
    --     i_dead_interval - silence that counts as death
    --
    -- Returns:
    --     true when a batch was taken over
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.unregister_consumer(2)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer
    --     update - pgq.subscription
    --
    -- Locks:
    --     the dead member's subscription row; waits for its finish_batch
    -- ----------------------------------------------------------------
declare
    v_dead pgq.subscription%rowtype;
begin
    select s.* into v_dead
      from pgq.subscription s
     where s.sub_queue = i_main.sub_queue
       and s.sub_id = i_main.sub_id
       and s.sub_consumer not in (i_main.sub_consumer, i_member.sub_consumer)
       and s.sub_active < now() - i_dead_interval
     order by s.sub_batch is null, s.sub_active
     limit 1
       for update;
    if not found then
        return false;
    end if;
    perform pgq.unregister_consumer(
        (select q.queue_name from pgq.queue q where q.queue_id = v_dead.sub_queue),
        (select c.co_name from pgq.consumer c where c.co_id = v_dead.sub_consumer));
    if v_dead.sub_batch is null then
        return false;
    end if;
    update pgq.subscription s
       set sub_batch = nextval('pgq.batch_id_seq'),
           sub_last_tick = v_dead.sub_last_tick,
           sub_next_tick = v_dead.sub_next_tick,
           sub_active = now()
     where s.sub_queue = i_member.sub_queue and s.sub_consumer = i_member.sub_consumer;
    return true;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_coop, pg_temp;

comment on function pgq_coop._take_over(i_main pgq.subscription, i_member pgq.subscription, i_dead_interval interval) is 'Unregisters one dead member of a group and gives its open batch, if it has one, to another member under a new id.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_coop', 'functions/_take_over.sql', 'd20dec35af9ee4462c731a001508ccf445f46e98974d49a2c7e80c4107637191', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_coop' and path = 'functions/_take_over.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_coop', p.oid::pg_catalog.regprocedure::text, 'functions/_take_over.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_coop' and p.proname = '_take_over' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_coop/grants.sql
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

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_coop', 'grants.sql', '6ed454266cba30e97008523a2768a9b8027ab744c60c38935462e73911be88e9', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;

-- Schema pgq_ext

do $skyd$
declare
    v_recorded  boolean := false;
    v_state     record;
begin
    select * into v_state from (select s.name, n.oid is not null,
       coalesce(pg_catalog.pg_get_userbyid(n.nspowner)::text, ''),
       n.oid is not null and pg_catalog.pg_has_role(n.nspowner, 'USAGE'),
       coalesce((
           select e.extname || ' ' || e.extversion
           from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid
           where d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and d.deptype = 'e'
             and (d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.objid = n.oid
                  or d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                     and d.objid in (select p.oid from pg_catalog.pg_proc p where p.pronamespace = n.oid))
           limit 1), ''),
       exists (select 1 from pg_catalog.pg_class c where c.relnamespace = n.oid)
       or exists (select 1 from pg_catalog.pg_proc p where p.pronamespace = n.oid)
       or exists (select 1 from pg_catalog.pg_type t where t.typnamespace = n.oid),
       (select pg_catalog.count(*) = 4 from pg_catalog.pg_attribute a
        where (a.attrelid, a.attname) in (
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.queue'), 'queue_switch_step2'),
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.queue'), 'queue_data_pfx'),
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.subscription'), 'sub_last_tick'),
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.tick'), 'tick_snapshot')))
from pg_catalog.unnest('{pgq_ext}'::text[]) as s (name)
left join pg_catalog.pg_namespace n on n.nspname = s.name) as s (name, present, role, mine, extension, filled, original);
    if v_state.extension <> '' then
        raise exception 'schema pgq_ext belongs to extension %: leave it alone, skyd runs on it', v_state.extension;
    end if;
    if pg_catalog.to_regclass('skyd.schema_file') is not null then
        execute $$ select exists (select from skyd.schema_file where schema_name = 'pgq_ext' and path = 'tables.sql') $$
        into v_recorded;
    end if;
    if v_state.filled and not v_recorded then
        raise exception 'schema pgq_ext is there and is not from skyd; it belongs to role %', v_state.role;
    end if;
    perform pg_catalog.set_config('skyd.fresh_pgq_ext', (not v_state.filled)::text, true);
end
$skyd$;

-- File pgq_ext/schema.sql
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
delete from skyd.schema_file where schema_name = 'pgq_ext' and pg_catalog.current_setting('skyd.fresh_pgq_ext')::boolean;
delete from skyd.schema_function where schema_name = 'pgq_ext' and pg_catalog.current_setting('skyd.fresh_pgq_ext')::boolean;

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_ext', 'schema.sql', '6dd092a1edfd0cb79429d6b198893560f8dbb7e4b7e60c808bfe16e44d3c1fbb', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;

-- File pgq_ext/tables.sql
do $skyd$
declare
    v_fresh     boolean := pg_catalog.current_setting('skyd.fresh_pgq_ext')::boolean;
    v_recorded  boolean := false;
begin
    if not v_fresh then
        v_recorded := exists (select from skyd.schema_file where schema_name = 'pgq_ext' and path = 'tables.sql');
    end if;
    if v_fresh then
        execute $shape$
-- What consumers have done in this database. Nobody has rights on the tables;
-- the functions are the way in.

create table pgq_ext.completed_tick (
    consumer_id    text   not null,
    subconsumer_id text   not null default '',
    last_tick_id   bigint not null,

    constraint completed_tick_pkey primary key (consumer_id, subconsumer_id)
);
comment on table pgq_ext.completed_tick is 'last tick done, one row for each consumer';

create table pgq_ext.completed_batch (
    consumer_id    text   not null,
    subconsumer_id text   not null default '',
    last_batch_id  bigint not null,

    constraint completed_batch_pkey primary key (consumer_id, subconsumer_id)
);
comment on table pgq_ext.completed_batch is 'last batch done, one row for each consumer';

create table pgq_ext.completed_event (
    consumer_id    text   not null,
    subconsumer_id text   not null default '',
    batch_id       bigint not null,
    event_id       bigint not null,

    constraint completed_event_pkey primary key (consumer_id, subconsumer_id, batch_id, event_id)
);
comment on table pgq_ext.completed_event is 'events done of the batch at hand';

create table pgq_ext.partial_batch (
    consumer_id    text   not null,
    subconsumer_id text   not null default '',
    cur_batch_id   bigint not null,

    constraint partial_batch_pkey primary key (consumer_id, subconsumer_id)
);
comment on table pgq_ext.partial_batch is 'the batch whose events completed_event holds';
$shape$;
    end if;
end
$skyd$;

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_ext', 'tables.sql', '2b3d9e8e86341defdbd71204f0d469de411825b080dcb9a19b8b14050a9753e7', 'bundle')
on conflict (schema_name, path) do nothing;

-- File pgq_ext/functions/is_batch_done.sql
create or replace function pgq_ext.is_batch_done(a_consumer text, a_subconsumer text, a_batch_id bigint)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.is_batch_done(3)
    --
    --     Tells whether a batch is the last one that this consumer has done
    --     here.
    --
    --     Security definer: nobody but the owner has rights on the tables.
    --
    -- Parameters:
    --     a_consumer    - consumer name
    --     a_subconsumer - subconsumer name, empty: none
    --     a_batch_id    - batch of the source queue
    --
    -- Returns:
    --     true when it is; false for another one, or when none is stored
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq_ext.completed_batch
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return exists (
        select 1
          from pgq_ext.completed_batch b
         where b.consumer_id = a_consumer
           and b.subconsumer_id = a_subconsumer
           and b.last_batch_id = a_batch_id);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_ext, pg_temp;

create or replace function pgq_ext.is_batch_done(a_consumer text, a_batch_id bigint)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.is_batch_done(2)
    --
    --     As pgq_ext.is_batch_done(3), without a subconsumer.
    --
    -- Parameters:
    --     a_consumer - consumer name
    --     a_batch_id - batch of the source queue
    --
    -- Returns:
    --     true when it is; false for another one, or when none is stored
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq_ext.is_batch_done(3)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return pgq_ext.is_batch_done(a_consumer, '', a_batch_id);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_ext, pg_temp;

comment on function pgq_ext.is_batch_done(a_consumer text, a_subconsumer text, a_batch_id bigint) is 'Tells whether a batch is the last one that this consumer has done here.';

comment on function pgq_ext.is_batch_done(a_consumer text, a_batch_id bigint) is 'As pgq_ext.is_batch_done(3), without a subconsumer.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_ext', 'functions/is_batch_done.sql', '8aa68ccb4640c1ea31b338c83cd347c5a25472f25d44639fcf68303cdec20b3a', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_ext' and path = 'functions/is_batch_done.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_ext', p.oid::pg_catalog.regprocedure::text, 'functions/is_batch_done.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_ext' and p.proname = 'is_batch_done' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_ext/functions/set_batch_done.sql
create or replace function pgq_ext.set_batch_done(a_consumer text, a_subconsumer text, a_batch_id bigint)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.set_batch_done(3)
    --
    --     Notes that a batch is done, in the transaction that applied it. Only
    --     the last batch is kept.
    --
    --     Two sessions that note the same batch take turns: the second one
    --     waits and answers false.
    --
    --     Security definer: nobody but the owner has rights on the tables.
    --
    -- Parameters:
    --     a_consumer    - consumer name
    --     a_subconsumer - subconsumer name, empty: none
    --     a_batch_id    - batch of the source queue
    --
    -- Returns:
    --     true  - stored now, or an id of 0 or below, which is never stored
    --     false - it was the last one already: it has been applied before
    --
    -- Raises:
    --     an argument is null
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     insert - pgq_ext.completed_batch
    --     update - pgq_ext.completed_batch
    --
    -- Locks:
    --     the consumer's row; waits for another session of the same consumer
    -- ----------------------------------------------------------------
begin
    if a_batch_id <= 0 then
        return true;
    end if;
    insert into pgq_ext.completed_batch as b (consumer_id, subconsumer_id, last_batch_id)
    values (a_consumer, a_subconsumer, a_batch_id)
    on conflict (consumer_id, subconsumer_id) do update
       set last_batch_id = excluded.last_batch_id
     where b.last_batch_id <> excluded.last_batch_id;
    return found;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_ext, pg_temp;

create or replace function pgq_ext.set_batch_done(a_consumer text, a_batch_id bigint)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.set_batch_done(2)
    --
    --     As pgq_ext.set_batch_done(3), without a subconsumer.
    --
    -- Parameters:
    --     a_consumer - consumer name
    --     a_batch_id - batch of the source queue
    --
    -- Returns:
    --     true  - stored now, or an id of 0 or below, which is never stored
    --     false - it was the last one already: it has been applied before
    --
    -- Raises:
    --     an argument is null
    --
    -- Calls:
    --     pgq_ext.set_batch_done(3)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     the consumer's row; waits for another session of the same consumer
    -- ----------------------------------------------------------------
begin
    return pgq_ext.set_batch_done(a_consumer, '', a_batch_id);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_ext, pg_temp;

comment on function pgq_ext.set_batch_done(a_consumer text, a_subconsumer text, a_batch_id bigint) is 'Notes that a batch is done, in the transaction that applied it.';

comment on function pgq_ext.set_batch_done(a_consumer text, a_batch_id bigint) is 'As pgq_ext.set_batch_done(3), without a subconsumer.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_ext', 'functions/set_batch_done.sql', '66ab66cfca1348f70aefd8014460117e48909a1051dbd244252ea6cf51c03d38', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_ext' and path = 'functions/set_batch_done.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_ext', p.oid::pg_catalog.regprocedure::text, 'functions/set_batch_done.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_ext' and p.proname = 'set_batch_done' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_ext/functions/is_event_done.sql
create or replace function pgq_ext.is_event_done(a_consumer text, a_subconsumer text, a_batch_id bigint, a_event_id bigint)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.is_event_done(4)
    --
    --     Tells whether an event is tagged as done.
    --
    --     Security definer: nobody but the owner has rights on the tables.
    --
    -- Parameters:
    --     a_consumer    - consumer name
    --     a_subconsumer - subconsumer name, empty: none
    --     a_batch_id    - batch of the source queue
    --     a_event_id    - event of that batch
    --
    -- Returns:
    --     true or false
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq_ext.completed_event
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return exists (
        select 1
          from pgq_ext.completed_event e
         where e.consumer_id = a_consumer
           and e.subconsumer_id = a_subconsumer
           and e.batch_id = a_batch_id
           and e.event_id = a_event_id);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_ext, pg_temp;

create or replace function pgq_ext.is_event_done(a_consumer text, a_batch_id bigint, a_event_id bigint)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.is_event_done(3)
    --
    --     As pgq_ext.is_event_done(4), without a subconsumer.
    --
    -- Parameters:
    --     a_consumer - consumer name
    --     a_batch_id - batch of the source queue
    --     a_event_id - event of that batch
    --
    -- Returns:
    --     true or false
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq_ext.is_event_done(4)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return pgq_ext.is_event_done(a_consumer, '', a_batch_id, a_event_id);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_ext, pg_temp;

comment on function pgq_ext.is_event_done(a_consumer text, a_subconsumer text, a_batch_id bigint, a_event_id bigint) is 'Tells whether an event is tagged as done.';

comment on function pgq_ext.is_event_done(a_consumer text, a_batch_id bigint, a_event_id bigint) is 'As pgq_ext.is_event_done(4), without a subconsumer.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_ext', 'functions/is_event_done.sql', '4b0ea67fc11b73e8822af5664d66a4253ef48a8b5acab84a7b7aaf305282edbc', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_ext' and path = 'functions/is_event_done.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_ext', p.oid::pg_catalog.regprocedure::text, 'functions/is_event_done.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_ext' and p.proname = 'is_event_done' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_ext/functions/set_event_done.sql
create or replace function pgq_ext.set_event_done(a_consumer text, a_subconsumer text, a_batch_id bigint, a_event_id bigint)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.set_event_done(4)
    --
    --     Tags an event as done, in the transaction that applied it. The first
    --     event of another batch deletes the tags of the batch before.
    --
    --     Security definer: nobody but the owner has rights on the tables.
    --
    -- Parameters:
    --     a_consumer    - consumer name
    --     a_subconsumer - subconsumer name, empty: none
    --     a_batch_id    - batch of the source queue
    --     a_event_id    - event of that batch
    --
    -- Returns:
    --     true  - tagged now
    --     false - was tagged: it has been applied before
    --
    -- Raises:
    --     an argument is null
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     insert - pgq_ext.partial_batch, pgq_ext.completed_event
    --     update - pgq_ext.partial_batch
    --     delete - pgq_ext.completed_event
    --
    -- Locks:
    --     the consumer's row; waits for another session of the same consumer
    -- ----------------------------------------------------------------
declare
    v_batch bigint;
begin
    insert into pgq_ext.partial_batch (consumer_id, subconsumer_id, cur_batch_id)
    values (a_consumer, a_subconsumer, a_batch_id)
    on conflict (consumer_id, subconsumer_id) do nothing;
    if not found then
        select b.cur_batch_id into v_batch
          from pgq_ext.partial_batch b
         where b.consumer_id = a_consumer
           and b.subconsumer_id = a_subconsumer
           for update;
        if v_batch <> a_batch_id then
            delete from pgq_ext.completed_event e
             where e.consumer_id = a_consumer
               and e.subconsumer_id = a_subconsumer
               and e.batch_id = v_batch;
            update pgq_ext.partial_batch b
               set cur_batch_id = a_batch_id
             where b.consumer_id = a_consumer
               and b.subconsumer_id = a_subconsumer;
        end if;
    end if;
    insert into pgq_ext.completed_event (consumer_id, subconsumer_id, batch_id, event_id)
    values (a_consumer, a_subconsumer, a_batch_id, a_event_id)
    on conflict do nothing;
    return found;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_ext, pg_temp;

create or replace function pgq_ext.set_event_done(a_consumer text, a_batch_id bigint, a_event_id bigint)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.set_event_done(3)
    --
    --     As pgq_ext.set_event_done(4), without a subconsumer.
    --
    -- Parameters:
    --     a_consumer - consumer name
    --     a_batch_id - batch of the source queue
    --     a_event_id - event of that batch
    --
    -- Returns:
    --     true  - tagged now
    --     false - was tagged: it has been applied before
    --
    -- Raises:
    --     an argument is null
    --
    -- Calls:
    --     pgq_ext.set_event_done(4)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     the consumer's row; waits for another session of the same consumer
    -- ----------------------------------------------------------------
begin
    return pgq_ext.set_event_done(a_consumer, '', a_batch_id, a_event_id);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_ext, pg_temp;

comment on function pgq_ext.set_event_done(a_consumer text, a_subconsumer text, a_batch_id bigint, a_event_id bigint) is 'Tags an event as done, in the transaction that applied it.';

comment on function pgq_ext.set_event_done(a_consumer text, a_batch_id bigint, a_event_id bigint) is 'As pgq_ext.set_event_done(4), without a subconsumer.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_ext', 'functions/set_event_done.sql', '959ace0c3675106c6806f37cc6bfb6687b39012e5ac916a59d3acbe8f0752123', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_ext' and path = 'functions/set_event_done.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_ext', p.oid::pg_catalog.regprocedure::text, 'functions/set_event_done.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_ext' and p.proname = 'set_event_done' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_ext/functions/get_last_tick.sql
create or replace function pgq_ext.get_last_tick(a_consumer text, a_subconsumer text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.get_last_tick(2)
    --
    --     Last tick that this consumer has done here.
    --
    --     Security definer: nobody but the owner has rights on the tables.
    --
    -- Parameters:
    --     a_consumer    - consumer name
    --     a_subconsumer - subconsumer name, empty: none
    --
    -- Returns:
    --     tick id, or null when none is stored
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq_ext.completed_tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return (select t.last_tick_id
              from pgq_ext.completed_tick t
             where t.consumer_id = a_consumer
               and t.subconsumer_id = a_subconsumer);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_ext, pg_temp;

create or replace function pgq_ext.get_last_tick(a_consumer text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.get_last_tick(1)
    --
    --     As pgq_ext.get_last_tick(2), without a subconsumer.
    --
    -- Parameters:
    --     a_consumer - consumer name
    --
    -- Returns:
    --     tick id, or null when none is stored
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq_ext.get_last_tick(2)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return pgq_ext.get_last_tick(a_consumer, '');
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_ext, pg_temp;

comment on function pgq_ext.get_last_tick(a_consumer text, a_subconsumer text) is 'Last tick that this consumer has done here.';

comment on function pgq_ext.get_last_tick(a_consumer text) is 'As pgq_ext.get_last_tick(2), without a subconsumer.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_ext', 'functions/get_last_tick.sql', '86daa9f68d98e00eb5819ee595e2244b47f60e371e9a71f7e119083fa1ebeac0', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_ext' and path = 'functions/get_last_tick.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_ext', p.oid::pg_catalog.regprocedure::text, 'functions/get_last_tick.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_ext' and p.proname = 'get_last_tick' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_ext/functions/set_last_tick.sql
create or replace function pgq_ext.set_last_tick(a_consumer text, a_subconsumer text, a_tick_id bigint)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.set_last_tick(3)
    --
    --     Notes the last tick done, in the transaction that applied it.
    --
    --     Security definer: nobody but the owner has rights on the tables.
    --
    -- Parameters:
    --     a_consumer    - consumer name
    --     a_subconsumer - subconsumer name, empty: none
    --     a_tick_id     - tick, also a lower one than stored; null: forget
    --
    -- Returns:
    --     1
    --
    -- Raises:
    --     a name is null and the tick is not
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     insert - pgq_ext.completed_tick
    --     update - pgq_ext.completed_tick
    --     delete - pgq_ext.completed_tick
    --
    -- Locks:
    --     the consumer's row
    -- ----------------------------------------------------------------
begin
    if a_tick_id is null then
        delete from pgq_ext.completed_tick t
         where t.consumer_id = a_consumer
           and t.subconsumer_id = a_subconsumer;
    else
        insert into pgq_ext.completed_tick (consumer_id, subconsumer_id, last_tick_id)
        values (a_consumer, a_subconsumer, a_tick_id)
        on conflict (consumer_id, subconsumer_id) do update
           set last_tick_id = excluded.last_tick_id;
    end if;
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_ext, pg_temp;

create or replace function pgq_ext.set_last_tick(a_consumer text, a_tick_id bigint)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.set_last_tick(2)
    --
    --     As pgq_ext.set_last_tick(3), without a subconsumer.
    --
    -- Parameters:
    --     a_consumer - consumer name
    --     a_tick_id  - tick, also a lower one than stored; null: forget
    --
    -- Returns:
    --     1
    --
    -- Raises:
    --     a name is null and the tick is not
    --
    -- Calls:
    --     pgq_ext.set_last_tick(3)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     the consumer's row
    -- ----------------------------------------------------------------
begin
    return pgq_ext.set_last_tick(a_consumer, '', a_tick_id);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_ext, pg_temp;

comment on function pgq_ext.set_last_tick(a_consumer text, a_subconsumer text, a_tick_id bigint) is 'Notes the last tick done, in the transaction that applied it.';

comment on function pgq_ext.set_last_tick(a_consumer text, a_tick_id bigint) is 'As pgq_ext.set_last_tick(3), without a subconsumer.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_ext', 'functions/set_last_tick.sql', '1e7d9f0dd1d3a82d4fec838dd6ded38a38bd71042bd2ff99772646f9446928ce', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_ext' and path = 'functions/set_last_tick.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_ext', p.oid::pg_catalog.regprocedure::text, 'functions/set_last_tick.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_ext' and p.proname = 'set_last_tick' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_ext/functions/version.sql
create or replace function pgq_ext.version()
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.version(0)
    --
    --     Version of the pgq_ext contract that this schema keeps.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     text that starts with the contract's version
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return '3.1-skyd';
end;
$$ language plpgsql immutable set search_path = pg_catalog, pgq_ext, pg_temp;

comment on function pgq_ext.version() is 'Version of the pgq_ext contract that this schema keeps.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_ext', 'functions/version.sql', 'cbc5f03fb373da7059335e7b5466f3f5cfb76ff51ce9a1ddeec668e054fdeb9c', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_ext' and path = 'functions/version.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_ext', p.oid::pg_catalog.regprocedure::text, 'functions/version.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_ext' and p.proname = 'version' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_ext/functions/upgrade_schema.sql
create or replace function pgq_ext.upgrade_schema()
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.upgrade_schema(0)
    --
    --     Kept for callers of the original. The installer upgrades this
    --     schema, so there is never anything to change.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     0, the number of changes made
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return 0;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_ext, pg_temp;

comment on function pgq_ext.upgrade_schema() is 'Kept for callers of the original.';

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_ext', 'functions/upgrade_schema.sql', '8f11c96532fded8d25fab4663a468009f978c70a75bc5466aa38c0f362c0bbab', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;
delete from skyd.schema_function where schema_name = 'pgq_ext' and path = 'functions/upgrade_schema.sql';
insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select 'pgq_ext', p.oid::pg_catalog.regprocedure::text, 'functions/upgrade_schema.sql', pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgq_ext' and p.proname = 'upgrade_schema' and p.prokind <> 'a'
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint;

-- File pgq_ext/grants.sql
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

insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ('pgq_ext', 'grants.sql', '6b630f3a5d1be44bddc9863d95a8cf46a71b1026f2ee9f5dacf8babdbc8ca111', 'bundle')
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at;

commit;
