-- A stand-in with the calls of pgmq that the benchmark makes. It says nothing about the speed of the real one.
create schema pgmq;
create table pgmq.q_bench (msg_id bigserial primary key, vt timestamptz not null default now(), message jsonb);
create function pgmq.create(queue_name text) returns void language plpgsql as $$
begin
    execute format('create table if not exists pgmq.%I (like pgmq.q_bench including all)', 'q_' || queue_name);
end $$;
create function pgmq.drop_queue(queue_name text) returns boolean language plpgsql as $$
begin
    execute format('drop table pgmq.%I', 'q_' || queue_name);
    return true;
end $$;
create function pgmq.send_batch(queue_name text, msgs jsonb[]) returns setof bigint language plpgsql as $$
begin
    return query execute format('insert into pgmq.%I (message) select unnest($1) returning msg_id', 'q_' || queue_name) using msgs;
end $$;
create function pgmq.send(queue_name text, msg jsonb) returns setof bigint language sql as $$
    select pgmq.send_batch(queue_name, array[msg]) $$;
create function pgmq.read(queue_name text, vt integer, qty integer)
returns table (msg_id bigint, message jsonb) language plpgsql as $$
begin
    return query execute format('update pgmq.%1$I q set vt = clock_timestamp() + $1 * interval ''1 second'' where q.msg_id in'
        ' (select msg_id from pgmq.%1$I where vt <= clock_timestamp() order by msg_id limit $2 for update skip locked)'
        ' returning q.msg_id, q.message', 'q_' || queue_name) using vt, qty;
end $$;
create function pgmq.read_with_poll(queue_name text, vt integer, qty integer, max_poll_seconds integer, poll_interval_ms integer)
returns table (msg_id bigint, message jsonb) language plpgsql as $$
begin
    return query select * from pgmq.read(queue_name, vt, qty);
    if not found then
        perform pg_sleep(poll_interval_ms / 1000.0);
    end if;
end $$;
create function pgmq.delete(queue_name text, msg_ids bigint[]) returns setof bigint language plpgsql as $$
begin
    return query execute format('delete from pgmq.%I where msg_id = any ($1) returning msg_id', 'q_' || queue_name) using msg_ids;
end $$;
