-- A plain-SQL install of PgQ 3.x as section 1 of the contract lays it out: the tables, and functions with the original's
-- signatures that only say that they were called. Rights as in the mode without roles: everybody may execute.
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
    queue_disable_insert boolean not null default false,
    queue_ticker_paused boolean not null default false,
    queue_ticker_max_count integer not null default 500,
    queue_ticker_max_lag interval not null default '3 seconds',
    queue_ticker_idle_period interval not null default '1 minute',
    queue_per_tx_limit integer,
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
    tick_event_seq bigint, -- null in databases that came from 2.1
    constraint tick_pkey primary key (tick_queue, tick_id),
    constraint tick_queue_fkey foreign key (tick_queue) references pgq.queue (queue_id)
);
create sequence pgq.batch_id_seq;
create table pgq.subscription (
    sub_id serial not null,
    sub_queue integer not null,
    sub_consumer integer not null,
    sub_last_tick bigint,
    sub_active timestamptz not null default pg_catalog.now(),
    sub_batch bigint,
    sub_next_tick bigint,
    constraint subscription_pkey primary key (sub_queue, sub_consumer),
    constraint subscription_batch_idx unique (sub_batch),
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
    ev_queue integer not null,
    like pgq.event_template,
    constraint rq_pkey primary key (ev_owner, ev_id),
    constraint rq_queue_id_fkey foreign key (ev_queue) references pgq.queue (queue_id)
);
alter table pgq.retry_queue alter column ev_txid drop not null;
create index rq_retry_idx on pgq.retry_queue (ev_retry_after);
grant select on pgq.consumer, pgq.queue, pgq.tick, pgq.subscription, pgq.event_template, pgq.retry_queue to public;

create function pgq.upgrade_schema() returns int4
    as $$ begin raise exception 'old pgq.upgrade_schema was called'; end $$ language plpgsql;
create function pgq.batch_event_sql(x_batch_id bigint) returns text
    as $$ begin raise exception 'old pgq.batch_event_sql was called'; end $$ language plpgsql;
create function pgq.batch_event_tables(x_batch_id bigint) returns setof text
    as $$ begin raise exception 'old pgq.batch_event_tables was called'; end $$ language plpgsql;
create function pgq.event_retry_raw(x_queue text, x_consumer text, x_retry_after timestamptz, x_ev_id bigint,
    x_ev_time timestamptz, x_ev_retry integer, x_ev_type text, x_ev_data text, x_ev_extra1 text,
    x_ev_extra2 text, x_ev_extra3 text, x_ev_extra4 text) returns bigint
    as $$ begin raise exception 'old pgq.event_retry_raw was called'; end $$ language plpgsql security definer;
create function pgq.find_tick_helper(in i_queue_id int4, in i_prev_tick_id int8, in i_prev_tick_time timestamptz,
    in i_prev_tick_seq int8, in i_min_count int8, in i_min_interval interval, out next_tick_id int8,
    out next_tick_time timestamptz, out next_tick_seq int8) returns record
    as $$ begin raise exception 'old pgq.find_tick_helper was called'; end $$ language plpgsql stable;
create function pgq.ticker(i_queue_name text, i_tick_id bigint, i_orig_timestamp timestamptz, i_event_seq bigint) returns bigint
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
create function pgq.maint_operations(out func_name text, out func_arg text) returns setof record
    as $$ begin raise exception 'old pgq.maint_operations was called'; end $$ language plpgsql;
create function pgq.grant_perms(x_queue_name text) returns integer
    as $$ begin raise exception 'old pgq.grant_perms was called'; end $$ language plpgsql security definer;
create function pgq._grant_perms_from(src_schema text, src_table text, dst_schema text, dst_table text) returns integer
    as $$ begin raise exception 'old pgq._grant_perms_from was called'; end $$ language plpgsql security definer;
create function pgq.tune_storage(i_queue_name text) returns integer
    as $$ begin raise exception 'old pgq.tune_storage was called'; end $$ language plpgsql strict;
create function pgq.force_tick(i_queue_name text) returns bigint
    as $$ begin raise exception 'old pgq.force_tick was called'; end $$ language plpgsql security definer;
create function pgq.seq_getval(i_seq_name text) returns bigint
    as $$ begin raise exception 'old pgq.seq_getval was called'; end $$ language plpgsql strict;
create function pgq.seq_setval(i_seq_name text, i_new_value int8) returns bigint
    as $$ begin raise exception 'old pgq.seq_setval was called'; end $$ language plpgsql strict;
create function pgq.quote_fqname(i_name text) returns text
    as $$ begin raise exception 'old pgq.quote_fqname was called'; end $$ language plpgsql strict immutable;
create function pgq.create_queue(i_queue_name text) returns integer
    as $$ begin raise exception 'old pgq.create_queue was called'; end $$ language plpgsql security definer;
create function pgq.drop_queue(x_queue_name text, x_force bool) returns integer
    as $$ begin raise exception 'old pgq.drop_queue was called'; end $$ language plpgsql security definer;
create function pgq.drop_queue(x_queue_name text) returns integer
    as $$ begin raise exception 'old pgq.drop_queue was called'; end $$ language plpgsql;
create function pgq.set_queue_config(x_queue_name text, x_param_name text, x_param_value text) returns integer
    as $$ begin raise exception 'old pgq.set_queue_config was called'; end $$ language plpgsql security definer;
create function pgq.insert_event_raw(queue_name text, ev_id bigint, ev_time timestamptz, ev_owner integer, ev_retry integer,
    ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text) returns int8
    as $$ begin raise exception 'old pgq.insert_event_raw was called'; end $$ language plpgsql;
create function pgq.insert_event(queue_name text, ev_type text, ev_data text) returns bigint
    as $$ begin raise exception 'old pgq.insert_event was called'; end $$ language plpgsql;
create function pgq.insert_event(queue_name text, ev_type text, ev_data text,
    ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text) returns bigint
    as $$ begin raise exception 'old pgq.insert_event was called'; end $$ language plpgsql security definer;
create function pgq.current_event_table(x_queue_name text) returns text
    as $$ begin raise exception 'old pgq.current_event_table was called'; end $$ language plpgsql;
create function pgq.register_consumer(x_queue_name text, x_consumer_id text) returns integer
    as $$ begin raise exception 'old pgq.register_consumer was called'; end $$ language plpgsql security definer;
create function pgq.register_consumer_at(x_queue_name text, x_consumer_name text, x_tick_pos bigint) returns integer
    as $$ begin raise exception 'old pgq.register_consumer_at was called'; end $$ language plpgsql security definer;
create function pgq.unregister_consumer(x_queue_name text, x_consumer_name text) returns integer
    as $$ begin raise exception 'old pgq.unregister_consumer was called'; end $$ language plpgsql security definer;
create function pgq.next_batch_info(in i_queue_name text, in i_consumer_name text,
    out batch_id int8, out cur_tick_id int8, out prev_tick_id int8, out cur_tick_time timestamptz,
    out prev_tick_time timestamptz, out cur_tick_event_seq int8, out prev_tick_event_seq int8) returns record
    as $$ begin raise exception 'old pgq.next_batch_info was called'; end $$ language plpgsql;
create function pgq.next_batch(i_queue_name text, i_consumer_name text) returns int8
    as $$ begin raise exception 'old pgq.next_batch was called'; end $$ language plpgsql;
create function pgq.next_batch_custom(in i_queue_name text, in i_consumer_name text, in i_min_lag interval, in i_min_count int4,
    in i_min_interval interval,
    out batch_id int8, out cur_tick_id int8, out prev_tick_id int8, out cur_tick_time timestamptz,
    out prev_tick_time timestamptz, out cur_tick_event_seq int8, out prev_tick_event_seq int8) returns record
    as $$ begin raise exception 'old pgq.next_batch_custom was called'; end $$ language plpgsql security definer;
create function pgq.get_batch_events(in x_batch_id bigint, out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry int4, out ev_type text, out ev_data text,
    out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text) returns setof record
    as $$ begin raise exception 'old pgq.get_batch_events was called'; end $$ language plpgsql;
create function pgq.get_batch_cursor(in i_batch_id bigint, in i_cursor_name text, in i_quick_limit int4, in i_extra_where text,
    out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry int4, out ev_type text, out ev_data text,
    out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text) returns setof record
    as $$ begin raise exception 'old pgq.get_batch_cursor was called'; end $$ language plpgsql;
create function pgq.get_batch_cursor(in i_batch_id bigint, in i_cursor_name text, in i_quick_limit int4,
    out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry int4, out ev_type text, out ev_data text,
    out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text) returns setof record
    as $$ begin raise exception 'old pgq.get_batch_cursor was called'; end $$ language plpgsql;
create function pgq.event_retry(x_batch_id bigint, x_event_id bigint, x_retry_time timestamptz) returns integer
    as $$ begin raise exception 'old pgq.event_retry was called'; end $$ language plpgsql security definer;
create function pgq.event_retry(x_batch_id bigint, x_event_id bigint, x_retry_seconds integer) returns integer
    as $$ begin raise exception 'old pgq.event_retry was called'; end $$ language plpgsql security definer;
create function pgq.batch_retry(i_batch_id bigint, i_retry_seconds integer) returns integer
    as $$ begin raise exception 'old pgq.batch_retry was called'; end $$ language plpgsql security definer;
create function pgq.finish_batch(x_batch_id bigint) returns integer
    as $$ begin raise exception 'old pgq.finish_batch was called'; end $$ language plpgsql security definer;
-- before 3.2 without the counters of events
create function pgq.get_queue_info(out queue_name text, out queue_ntables integer, out queue_cur_table integer,
    out queue_rotation_period interval, out queue_switch_time timestamptz, out queue_external_ticker boolean,
    out queue_ticker_paused boolean, out queue_ticker_max_count integer, out queue_ticker_max_lag interval,
    out queue_ticker_idle_period interval, out ticker_lag interval) returns setof record
    as $$ begin raise exception 'old pgq.get_queue_info was called'; end $$ language plpgsql;
create function pgq.get_queue_info(in i_queue_name text, out queue_name text, out queue_ntables integer, out queue_cur_table integer,
    out queue_rotation_period interval, out queue_switch_time timestamptz, out queue_external_ticker boolean,
    out queue_ticker_paused boolean, out queue_ticker_max_count integer, out queue_ticker_max_lag interval,
    out queue_ticker_idle_period interval, out ticker_lag interval) returns setof record
    as $$ begin raise exception 'old pgq.get_queue_info was called'; end $$ language plpgsql;
create function pgq.get_consumer_info(out queue_name text, out consumer_name text, out lag interval, out last_seen interval,
    out last_tick bigint, out current_batch bigint, out next_tick bigint, out pending_events bigint) returns setof record
    as $$ begin raise exception 'old pgq.get_consumer_info was called'; end $$ language plpgsql security definer;
create function pgq.get_consumer_info(in i_queue_name text, out queue_name text, out consumer_name text, out lag interval, out last_seen interval,
    out last_tick bigint, out current_batch bigint, out next_tick bigint, out pending_events bigint) returns setof record
    as $$ begin raise exception 'old pgq.get_consumer_info was called'; end $$ language plpgsql security definer;
create function pgq.get_consumer_info(in i_queue_name text, in i_consumer_name text, out queue_name text, out consumer_name text, out lag interval, out last_seen interval,
    out last_tick bigint, out current_batch bigint, out next_tick bigint, out pending_events bigint) returns setof record
    as $$ begin raise exception 'old pgq.get_consumer_info was called'; end $$ language plpgsql security definer;
create function pgq.version() returns text
    as $$ begin return '3.1'; end $$ language plpgsql;
create function pgq.get_batch_info(in x_batch_id bigint, out queue_name text, out consumer_name text, out batch_start timestamptz,
    out batch_end timestamptz, out prev_tick_id bigint, out tick_id bigint, out lag interval, out seq_start bigint,
    out seq_end bigint) returns record
    as $$ begin raise exception 'old pgq.get_batch_info was called'; end $$ language plpgsql security definer;
create function pgq.jsontriga() returns trigger
    as $$ begin raise exception 'old pgq.jsontriga was called'; end $$ language plpgsql;
create function pgq.logutriga() returns trigger
    as $$ begin raise exception 'old pgq.logutriga was called'; end $$ language plpgsql;
create function pgq.sqltriga() returns trigger
    as $$ begin raise exception 'old pgq.sqltriga was called'; end $$ language plpgsql;
create function pgq._urlencode(val text) returns text
    as $$ begin raise exception 'old pgq._urlencode was called'; end $$ language plpgsql immutable;
