-- A plain-SQL install of PgQ 2.1, by its published layout: no roles, no counter in ticks, no queue in waiting events,
-- subscriptions keyed by their own id, failed events, composite types for results. Functions only say that they were
-- called.
create schema pgq;
grant usage on schema pgq to public;

create table pgq.consumer (
    co_id serial,
    co_name text not null default 'fooz',
    constraint consumer_pkey primary key (co_id),
    constraint consumer_name_uq unique (co_name)
);
create table pgq.queue (
    queue_id serial,
    queue_name text not null,
    queue_ntables integer not null default 3,
    queue_cur_table integer not null default 0,
    queue_rotation_period interval not null default '2 hours',
    queue_switch_step1 bigint not null default pg_catalog.txid_current(),
    queue_switch_step2 bigint default pg_catalog.txid_current(),
    queue_switch_time timestamptz not null default pg_catalog.now(),
    queue_external_ticker boolean not null default false,
    queue_ticker_max_count integer not null default 500,
    queue_ticker_max_lag interval not null default '3 seconds',
    queue_ticker_idle_period interval not null default '1 minute',
    queue_data_pfx text not null,
    queue_event_seq text not null,
    queue_tick_seq text not null,
    constraint queue_pkey primary key (queue_id),
    constraint queue_name_uq unique (queue_name)
);
create table pgq.tick (
    tick_queue integer not null,
    tick_id bigint not null,
    tick_time timestamptz not null default pg_catalog.now(),
    tick_snapshot txid_snapshot not null default pg_catalog.txid_current_snapshot(),
    constraint tick_pkey primary key (tick_queue, tick_id),
    constraint tick_queue_fkey foreign key (tick_queue) references pgq.queue (queue_id)
);
create sequence pgq.batch_id_seq;
create table pgq.subscription (
    sub_id serial not null,
    sub_queue integer not null,
    sub_consumer integer not null,
    sub_last_tick bigint not null,
    sub_active timestamptz not null default pg_catalog.now(),
    sub_batch bigint,
    sub_next_tick bigint,
    constraint subscription_pkey primary key (sub_id),
    constraint subscription_ukey unique (sub_queue, sub_consumer),
    constraint sub_queue_fkey foreign key (sub_queue) references pgq.queue (queue_id),
    constraint sub_consumer_fkey foreign key (sub_consumer) references pgq.consumer (co_id)
);
create table pgq.event_template (
    ev_id bigint not null,
    ev_time timestamptz not null,
    ev_txid bigint not null default pg_catalog.txid_current(),
    ev_owner integer,
    ev_retry integer,
    ev_type text,
    ev_data text,
    ev_extra1 text,
    ev_extra2 text,
    ev_extra3 text,
    ev_extra4 text
);
create table pgq.retry_queue (
    ev_retry_after timestamptz not null,
    like pgq.event_template,
    constraint rq_pkey primary key (ev_owner, ev_id),
    constraint rq_owner_fkey foreign key (ev_owner) references pgq.subscription (sub_id)
);
alter table pgq.retry_queue alter column ev_txid drop not null;
create index rq_retry_idx on pgq.retry_queue (ev_retry_after);
create index rq_retry_owner_idx on pgq.retry_queue (ev_owner, ev_id);
create table pgq.failed_queue (
    ev_failed_reason text,
    ev_failed_time timestamptz not null,
    like pgq.event_template,
    constraint fq_pkey primary key (ev_owner, ev_id),
    constraint fq_owner_fkey foreign key (ev_owner) references pgq.subscription (sub_id)
);
alter table pgq.failed_queue alter column ev_txid drop not null;
grant select on pgq.consumer, pgq.queue, pgq.tick, pgq.subscription, pgq.event_template, pgq.retry_queue, pgq.failed_queue
    to public;

create type pgq.ret_queue_info as (
    queue_name text, queue_ntables integer, queue_cur_table integer, queue_rotation_period interval,
    queue_switch_time timestamptz, queue_external_ticker boolean, queue_ticker_max_count integer,
    queue_ticker_max_lag interval, queue_ticker_idle_period interval, ticker_lag interval);
create type pgq.ret_consumer_info as (
    queue_name text, consumer_name text, lag interval, last_seen interval, last_tick bigint, current_batch bigint,
    next_tick bigint);
create type pgq.ret_batch_info as (
    queue_name text, consumer_name text, batch_start timestamptz, batch_end timestamptz, prev_tick_id bigint,
    tick_id bigint, lag interval);
create type pgq.ret_batch_event as (
    ev_id bigint, ev_time timestamptz, ev_txid bigint, ev_retry integer, ev_type text, ev_data text, ev_extra1 text,
    ev_extra2 text, ev_extra3 text, ev_extra4 text);

create function pgq.batch_event_sql(x_batch_id bigint) returns text
    as $$ begin raise exception 'old pgq.batch_event_sql was called'; end $$ language plpgsql;
create function pgq.batch_event_tables(x_batch_id bigint) returns setof text
    as $$ begin raise exception 'old pgq.batch_event_tables was called'; end $$ language plpgsql;
create function pgq.event_retry_raw(x_queue text, x_consumer text, x_retry_after timestamptz, x_ev_id bigint,
    x_ev_time timestamptz, x_ev_retry integer, x_ev_type text, x_ev_data text, x_ev_extra1 text,
    x_ev_extra2 text, x_ev_extra3 text, x_ev_extra4 text) returns bigint
    as $$ begin raise exception 'old pgq.event_retry_raw was called'; end $$ language plpgsql security definer;
create function pgq.insert_event_raw(queue_name text, ev_id bigint, ev_time timestamptz, ev_owner integer, ev_retry integer,
    ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text) returns int8
    as $$ begin raise exception 'old pgq.insert_event_raw was called'; end $$ language plpgsql;
create function pgq.ticker(i_queue_name text, i_tick_id bigint) returns bigint
    as $$ begin raise exception 'old pgq.ticker was called'; end $$ language plpgsql security definer;
create function pgq.ticker(i_queue_name text) returns bigint
    as $$ begin raise exception 'old pgq.ticker was called'; end $$ language plpgsql security definer;
create function pgq.ticker() returns bigint
    as $$ begin raise exception 'old pgq.ticker was called'; end $$ language plpgsql security definer;
create function pgq.maint_retry_events() returns integer
    as $$ begin raise exception 'old pgq.maint_retry_events was called'; end $$ language plpgsql;
create function pgq.maint_rotate_tables_step1(i_queue_name text) returns integer
    as $$ begin raise exception 'old pgq.maint_rotate_tables_step1 was called'; end $$ language plpgsql;
create function pgq.maint_rotate_tables_step2() returns integer
    as $$ begin raise exception 'old pgq.maint_rotate_tables_step2 was called'; end $$ language plpgsql;
create function pgq.maint_tables_to_vacuum() returns setof text
    as $$ begin raise exception 'old pgq.maint_tables_to_vacuum was called'; end $$ language plpgsql;
create function pgq.grant_perms(x_queue_name text) returns integer
    as $$ begin raise exception 'old pgq.grant_perms was called'; end $$ language plpgsql security definer;
create function pgq.force_tick(i_queue_name text) returns bigint
    as $$ begin raise exception 'old pgq.force_tick was called'; end $$ language plpgsql security definer;
create function pgq.create_queue(i_queue_name text) returns integer
    as $$ begin raise exception 'old pgq.create_queue was called'; end $$ language plpgsql security definer;
create function pgq.drop_queue(x_queue_name text) returns integer
    as $$ begin raise exception 'old pgq.drop_queue was called'; end $$ language plpgsql security definer;
create function pgq.insert_event(queue_name text, ev_type text, ev_data text) returns bigint
    as $$ begin raise exception 'old pgq.insert_event was called'; end $$ language plpgsql security definer;
create function pgq.insert_event(queue_name text, ev_type text, ev_data text,
    ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text) returns bigint
    as $$ begin raise exception 'old pgq.insert_event was called'; end $$ language plpgsql security definer;
create function pgq.current_event_table(x_queue_name text) returns text
    as $$ begin raise exception 'old pgq.current_event_table was called'; end $$ language plpgsql;
create function pgq.register_consumer(x_queue_name text, x_consumer_id text) returns integer
    as $$ begin raise exception 'old pgq.register_consumer was called'; end $$ language plpgsql security definer;
create function pgq.register_consumer(x_queue_name text, x_consumer_name text, x_tick_pos bigint) returns integer
    as $$ begin raise exception 'old pgq.register_consumer was called'; end $$ language plpgsql security definer;
create function pgq.unregister_consumer(x_queue_name text, x_consumer_name text) returns integer
    as $$ begin raise exception 'old pgq.unregister_consumer was called'; end $$ language plpgsql security definer;
create function pgq.next_batch(x_queue_name text, x_consumer_name text) returns bigint
    as $$ begin raise exception 'old pgq.next_batch was called'; end $$ language plpgsql security definer;
create function pgq.get_batch_events(x_batch_id bigint) returns setof pgq.ret_batch_event
    as $$ begin raise exception 'old pgq.get_batch_events was called'; end $$ language plpgsql;
create function pgq.event_failed(x_batch_id bigint, x_event_id bigint, x_reason text) returns integer
    as $$ begin raise exception 'old pgq.event_failed was called'; end $$ language plpgsql security definer;
create function pgq.event_retry(x_batch_id bigint, x_event_id bigint, x_retry_time timestamptz) returns integer
    as $$ begin raise exception 'old pgq.event_retry was called'; end $$ language plpgsql security definer;
create function pgq.event_retry(x_batch_id bigint, x_event_id bigint, x_retry_seconds integer) returns integer
    as $$ begin raise exception 'old pgq.event_retry was called'; end $$ language plpgsql security definer;
create function pgq.finish_batch(x_batch_id bigint) returns integer
    as $$ begin raise exception 'old pgq.finish_batch was called'; end $$ language plpgsql security definer;
create function pgq.get_queue_info() returns setof pgq.ret_queue_info
    as $$ begin raise exception 'old pgq.get_queue_info was called'; end $$ language plpgsql security definer;
create function pgq.get_queue_info(qname text) returns pgq.ret_queue_info
    as $$ begin raise exception 'old pgq.get_queue_info was called'; end $$ language plpgsql security definer;
create function pgq.get_consumer_info() returns setof pgq.ret_consumer_info
    as $$ begin raise exception 'old pgq.get_consumer_info was called'; end $$ language plpgsql security definer;
create function pgq.get_consumer_info(x_queue_name text) returns setof pgq.ret_consumer_info
    as $$ begin raise exception 'old pgq.get_consumer_info was called'; end $$ language plpgsql security definer;
create function pgq.get_consumer_info(x_queue_name text, x_consumer_name text) returns setof pgq.ret_consumer_info
    as $$ begin raise exception 'old pgq.get_consumer_info was called'; end $$ language plpgsql security definer;
create function pgq.version() returns text
    as $$ begin return '2.1.8'; end $$ language plpgsql;
create function pgq.get_batch_info(x_batch_id bigint) returns pgq.ret_batch_info
    as $$ begin raise exception 'old pgq.get_batch_info was called'; end $$ language plpgsql security definer;
create function pgq.failed_event_list(x_queue_name text, x_consumer_name text) returns setof pgq.failed_queue
    as $$ begin raise exception 'old pgq.failed_event_list was called'; end $$ language plpgsql security definer;
create function pgq.failed_event_list(x_queue_name text, x_consumer_name text, x_count integer, x_offset integer) returns setof pgq.failed_queue
    as $$ begin raise exception 'old pgq.failed_event_list was called'; end $$ language plpgsql security definer;
create function pgq.failed_event_count(x_queue_name text, x_consumer_name text) returns integer
    as $$ begin raise exception 'old pgq.failed_event_count was called'; end $$ language plpgsql security definer;
create function pgq.failed_event_delete(x_queue_name text, x_consumer_name text, x_event_id bigint) returns integer
    as $$ begin raise exception 'old pgq.failed_event_delete was called'; end $$ language plpgsql security definer;
create function pgq.failed_event_retry(x_queue_name text, x_consumer_name text, x_event_id bigint) returns bigint
    as $$ begin raise exception 'old pgq.failed_event_retry was called'; end $$ language plpgsql security definer;
create function pgq.logtriga() returns trigger
    as $$ begin raise exception 'old pgq.logtriga was called'; end $$ language plpgsql;
create function pgq.sqltriga() returns trigger
    as $$ begin raise exception 'old pgq.sqltriga was called'; end $$ language plpgsql;
create function pgq.logutriga() returns trigger
    as $$ begin raise exception 'old pgq.logutriga was called'; end $$ language plpgsql;
