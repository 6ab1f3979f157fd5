-- A plain-SQL install of pgq_coop 3.x: functions only.
create schema pgq_coop;
grant usage on schema pgq_coop to public;

create function pgq_coop.register_subconsumer(i_queue_name text, i_consumer_name text, i_subconsumer_name text) returns integer
    as $$ begin raise exception 'old pgq_coop.register_subconsumer was called'; end $$ language plpgsql security definer;
create function pgq_coop.unregister_subconsumer(i_queue_name text, i_consumer_name text, i_subconsumer_name text,
    i_batch_handling integer) returns integer
    as $$ begin raise exception 'old pgq_coop.unregister_subconsumer was called'; end $$ language plpgsql security definer;
create function pgq_coop.next_batch(i_queue_name text, i_consumer_name text, i_subconsumer_name text) returns bigint
    as $$ begin raise exception 'old pgq_coop.next_batch was called'; end $$ language plpgsql;
create function pgq_coop.next_batch(i_queue_name text, i_consumer_name text, i_subconsumer_name text,
    i_dead_interval interval) returns bigint
    as $$ begin raise exception 'old pgq_coop.next_batch was called'; end $$ language plpgsql;
create function pgq_coop.next_batch_custom(i_queue_name text, i_consumer_name text, i_subconsumer_name text,
    i_min_lag interval, i_min_count int4, i_min_interval interval) returns bigint
    as $$ begin raise exception 'old pgq_coop.next_batch_custom was called'; end $$ language plpgsql security definer;
create function pgq_coop.next_batch_custom(i_queue_name text, i_consumer_name text, i_subconsumer_name text,
    i_min_lag interval, i_min_count int4, i_min_interval interval, i_dead_interval interval) returns bigint
    as $$ begin raise exception 'old pgq_coop.next_batch_custom was called'; end $$ language plpgsql security definer;
create function pgq_coop.finish_batch(i_batch_id bigint) returns integer
    as $$ begin raise exception 'old pgq_coop.finish_batch was called'; end $$ language plpgsql security definer;
create function pgq_coop.version() returns text
    as $$ begin return '3.1'; end $$ language plpgsql;
