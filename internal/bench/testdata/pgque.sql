-- A stand-in with the calls of PgQue that the benchmark makes, for one writer at a time. It says nothing about the speed
-- of the real one.
create schema pgque;
create table pgque.queue (queue_id serial primary key, queue_name text unique, queue_data_pfx text);
create table pgque.tick (tick_queue int, tick_id bigint, last_event bigint);
create table pgque.subscription (sub_queue int, sub_consumer text, sub_last_tick bigint, sub_batch bigint, sub_next_tick bigint);
create sequence pgque.batches;
create function pgque.create_queue(q text) returns int language plpgsql as $$
declare id int;
begin
    insert into pgque.queue (queue_name) values (q) on conflict do nothing returning queue_id into id;
    if id is null then return 0; end if;
    update pgque.queue set queue_data_pfx = 'pgque.event_' || id where queue_id = id;
    execute format('create table pgque.event_%s (ev_id bigserial, ev_time timestamptz default now(), ev_type text, ev_data text)', id);
    execute format('create table pgque.event_%s_0 () inherits (pgque.event_%s)', id, id);
    insert into pgque.tick values (id, 1, 0);
    return 1;
end $$;
create function pgque.drop_queue(q text, force boolean) returns int language plpgsql as $$
declare id int;
begin
    delete from pgque.queue where queue_name = q returning queue_id into id;
    execute format('drop table pgque.event_%s cascade', id);
    delete from pgque.tick where tick_queue = id;
    delete from pgque.subscription where sub_queue = id;
    return 1;
end $$;
create function pgque.set_queue_config(q text, name text, value text) returns int language sql as 'select 1';
create function pgque.register_consumer_at(q text, c text, tick bigint) returns int language sql as $$
    insert into pgque.subscription select queue_id, c, tick from pgque.queue where queue_name = q returning 1 $$;
create function pgque.register_consumer(q text, c text) returns int language sql as $$
    select pgque.register_consumer_at(q, c, (select max(tick_id) from pgque.tick join pgque.queue on queue_id = tick_queue where queue_name = q)) $$;
create function pgque.unregister_consumer(q text, c text) returns int language sql as $$
    delete from pgque.subscription where sub_consumer = c and sub_queue = (select queue_id from pgque.queue where queue_name = q) returning 1 $$;
create function pgque.get_consumer_info(q text, c text) returns setof pgque.subscription language sql as $$
    select * from pgque.subscription where sub_consumer = c and sub_queue = (select queue_id from pgque.queue where queue_name = q) $$;
create function pgque.insert_event(q text, t text, d text) returns bigint language plpgsql as $$
declare id int; ev bigint;
begin
    select queue_id into id from pgque.queue where queue_name = q;
    execute format('insert into pgque.event_%s_0 (ev_type, ev_data) values ($1, $2) returning ev_id', id) into ev using t, d;
    return ev;
end $$;
create function pgque.send(q text, t text, d text) returns bigint language sql as 'select pgque.insert_event(q, t, d)';
create function pgque.send_batch(q text, t text, d text[]) returns bigint[] language sql as $$
    select array_agg(pgque.insert_event(q, t, e)) from unnest(d) e $$;
create function pgque.ticker(q text) returns bigint language plpgsql as $$
declare id int; prev record; seen bigint;
begin
    lock table pgque.tick in exclusive mode;
    select queue_id into id from pgque.queue where queue_name = q;
    select tick_id, last_event into prev from pgque.tick where tick_queue = id order by tick_id desc limit 1;
    -- an event below the last id of a tick may be committed later, so wait for writers; good enough for a stand-in
    execute format('lock table pgque.event_%s_0 in share mode', id);
    execute format('select coalesce(max(ev_id), 0) from pgque.event_%s_0', id) into seen;
    if seen = prev.last_event then return null; end if;
    insert into pgque.tick values (id, prev.tick_id + 1, seen);
    return prev.tick_id + 1;
end $$;
create function pgque.ticker() returns bigint language sql as 'select count(pgque.ticker(queue_name)) from pgque.queue';
create function pgque.next_batch(q text, c text) returns bigint language plpgsql as $$
declare s record;
begin
    select sub.* into s from pgque.subscription sub join pgque.queue on queue_id = sub_queue where queue_name = q and sub_consumer = c;
    if s.sub_batch is null then
        update pgque.subscription set sub_batch = nextval('pgque.batches'), sub_next_tick = s.sub_last_tick + 1
         where sub_queue = s.sub_queue and sub_consumer = c
           and exists (select from pgque.tick where tick_queue = s.sub_queue and tick_id = s.sub_last_tick + 1)
        returning sub_batch into s.sub_batch;
    end if;
    return s.sub_batch;
end $$;
create function pgque.get_batch_events(b bigint) returns table (ev_id bigint, ev_type text, ev_data text, ev_time timestamptz) language plpgsql as $$
declare s record; lo bigint; hi bigint;
begin
    select * into s from pgque.subscription where sub_batch = b;
    select last_event into lo from pgque.tick where tick_queue = s.sub_queue and tick_id = s.sub_last_tick;
    select last_event into hi from pgque.tick where tick_queue = s.sub_queue and tick_id = s.sub_next_tick;
    return query execute format('select ev_id, ev_type, ev_data, ev_time from pgque.event_%s where ev_id > $1 and ev_id <= $2', s.sub_queue) using lo, hi;
end $$;
create function pgque.finish_batch(b bigint) returns int language sql as $$
    update pgque.subscription set sub_last_tick = sub_next_tick, sub_batch = null where sub_batch = b returning 1 $$;
create function pgque.receive(q text, c text, max_return int)
returns table (msg_id bigint, batch_id bigint, type text, payload text, retry_count int, created_at timestamptz, extra1 text, extra2 text, extra3 text, extra4 text)
language plpgsql as $$
declare b bigint := pgque.next_batch(q, c);
begin
    if b is null then return; end if;
    return query select ev_id, b, ev_type, ev_data, null::int, ev_time, null::text, null::text, null::text, null::text
      from pgque.get_batch_events(b) limit max_return;
end $$;
create function pgque.ack(b bigint) returns int language sql as 'select pgque.finish_batch(b)';
