-- A plain-SQL install of pgq_ext 2.1, by its published layout: no subconsumers.
create schema pgq_ext;
grant usage on schema pgq_ext to public;

create table pgq_ext.completed_tick (
    consumer_id text not null,
    last_tick_id bigint not null,
    primary key (consumer_id)
);
create table pgq_ext.completed_batch (
    consumer_id text not null,
    last_batch_id bigint not null,
    primary key (consumer_id)
);
create table pgq_ext.completed_event (
    consumer_id text not null,
    batch_id bigint not null,
    event_id bigint not null,
    primary key (consumer_id, batch_id, event_id)
);
create table pgq_ext.partial_batch (
    consumer_id text not null,
    cur_batch_id bigint not null,
    primary key (consumer_id)
);

create function pgq_ext.is_batch_done(a_consumer text, a_batch_id bigint) returns boolean
    as $$ begin raise exception 'old pgq_ext.is_batch_done was called'; end $$ language plpgsql security definer;
create function pgq_ext.set_batch_done(a_consumer text, a_batch_id bigint) returns boolean
    as $$ begin raise exception 'old pgq_ext.set_batch_done was called'; end $$ language plpgsql security definer;
create function pgq_ext.is_event_done(a_consumer text, a_batch_id bigint, a_event_id bigint) returns boolean
    as $$ begin raise exception 'old pgq_ext.is_event_done was called'; end $$ language plpgsql security definer;
create function pgq_ext.set_event_done(a_consumer text, a_batch_id bigint, a_event_id bigint) returns boolean
    as $$ begin raise exception 'old pgq_ext.set_event_done was called'; end $$ language plpgsql security definer;
create function pgq_ext.get_last_tick(a_consumer text) returns int8
    as $$ begin raise exception 'old pgq_ext.get_last_tick was called'; end $$ language plpgsql security definer;
create function pgq_ext.set_last_tick(a_consumer text, a_tick_id bigint) returns integer
    as $$ begin raise exception 'old pgq_ext.set_last_tick was called'; end $$ language plpgsql security definer;
create function pgq_ext.version() returns text
    as $$ begin return '2.1.6'; end $$ language plpgsql;
