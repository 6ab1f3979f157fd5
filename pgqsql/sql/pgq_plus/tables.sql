-- Settings and records of the additions. They hang on pgq.queue by foreign
-- keys that delete with it, because the tables of the contract stay as they are.

create table pgq.lease (
    lease_unit      text        not null primary key,
    lease_epoch     bigint      not null,
    lease_holder    text        not null,
    lease_taken     timestamptz not null default clock_timestamp(),
    lease_expires   timestamptz,
    -- makes the epoch a key: see pgq.lease_fence
    unique (lease_unit, lease_epoch)
);

comment on table pgq.lease is 'who of several equal daemons works on a unit; the epoch grows with every change of hands';
comment on column pgq.lease.lease_expires is 'end of a lease that is renewed by time; null: it lives and ends with the advisory lock of a session';

create table pgq.queue_option (
    queue_id     integer not null references pgq.queue (queue_id) on delete cascade,
    option_name  text    not null,
    option_value text    not null,

    constraint queue_option_pkey primary key (queue_id, option_name)
);
comment on table pgq.queue_option is 'settings of queues beyond PgQ, where they differ from the default';

create table pgq.dead_letter (
    dead_id       bigint      not null generated always as identity,
    dead_queue    integer     not null,
    dead_consumer text        not null,
    dead_time     timestamptz not null default pg_catalog.now(),
    dead_reason   text,
    ev_id         bigint      not null,
    ev_time       timestamptz not null,
    ev_txid       bigint,
    ev_retry      integer,
    ev_type       text,
    ev_data       text,
    ev_extra1     text,
    ev_extra2     text,
    ev_extra3     text,
    ev_extra4     text,

    constraint dead_letter_pkey primary key (dead_id),
    constraint dead_letter_event_uq unique (dead_queue, dead_consumer, ev_id),
    constraint dead_letter_queue_fkey foreign key (dead_queue) references pgq.queue (queue_id) on delete cascade
);
comment on table pgq.dead_letter is 'events that a consumer gave up; they outlive its registration and go with the queue';
comment on column pgq.dead_letter.dead_consumer is 'consumer name; of a cooperative group that of the main consumer';
comment on column pgq.dead_letter.ev_retry is 'redeliveries before it was given up';

create table pgq.slot_group (
    group_id    integer generated always as identity primary key,
    queue_id    integer not null references pgq.queue (queue_id) on delete cascade,
    consumer_id integer not null,
    group_name  text    not null,
    key_field   text    not null,
    slots       integer not null,
    new_slots   integer,
    cut_tick    bigint,

    constraint slot_group_name unique (queue_id, group_name),
    -- a group without its consumer would lose events to rotation
    constraint slot_group_subscription foreign key (queue_id, consumer_id)
        references pgq.subscription (sub_queue, sub_consumer) on delete cascade,
    constraint slot_group_resize check ((new_slots is null) = (cut_tick is null))
);
create index slot_group_subscription on pgq.slot_group (queue_id, consumer_id);
comment on table pgq.slot_group is 'ordered groups: consumers that share the events of a queue by key';
comment on column pgq.slot_group.new_slots is 'number of slots that holds from cut_tick on, while it is being changed';

create table pgq.group_slot (
    group_id  integer     not null references pgq.slot_group (group_id) on delete cascade,
    slot      integer     not null,
    last_tick bigint      not null,
    epoch     bigint      not null default 0,
    worker    text,
    expires   timestamptz,
    active    timestamptz not null default clock_timestamp(),

    constraint group_slot_pkey primary key (group_id, slot),
    constraint group_slot_lease check ((worker is null) = (expires is null))
) with (fillfactor = 50);
comment on table pgq.group_slot is 'position and owner of each slot of an ordered group; the epoch grows with every owner';

create table pgq.group_worker (
    group_id integer     not null references pgq.slot_group (group_id) on delete cascade,
    worker   text        not null,
    expires  timestamptz not null,

    constraint group_worker_pkey primary key (group_id, worker)
) with (fillfactor = 50);
comment on table pgq.group_worker is 'workers of ordered groups, as long as they show signs of life';

create view pgq.group_info as
select q.queue_name, g.group_name, g.key_field, g.slots, g.new_slots, s.slot, s.worker, s.epoch,
       s.worker is not null and s.expires > clock_timestamp() as alive, s.expires,
       s.last_tick, clock_timestamp() - t.tick_time as lag, clock_timestamp() - s.active as last_seen,
       top.tick_id - s.last_tick as pending_ticks
  from pgq.slot_group g
  join pgq.queue q on q.queue_id = g.queue_id
  join pgq.group_slot s on s.group_id = g.group_id
  left join pgq.tick t on t.tick_queue = g.queue_id and t.tick_id = s.last_tick
  left join lateral (
        select n.tick_id from pgq.tick n where n.tick_queue = g.queue_id order by n.tick_id desc limit 1) top on true;
comment on view pgq.group_info is 'slots of ordered groups: owner, epoch, position';

create table pgq.consumer_limit (
    limit_queue    integer not null,
    limit_consumer text,
    limit_action   text    not null,
    max_lag        interval,
    max_ticks      bigint,
    max_events     bigint,

    constraint consumer_limit_uq unique (limit_queue, limit_consumer),
    constraint consumer_limit_queue_fkey foreign key (limit_queue) references pgq.queue (queue_id) on delete cascade,
    constraint consumer_limit_action check (limit_action in ('none', 'warn', 'pause', 'detach'))
);
create unique index consumer_limit_default_uq on pgq.consumer_limit (limit_queue) where limit_consumer is null;
comment on table pgq.consumer_limit is 'how far a consumer may lag, and what is done when it lags more';
comment on column pgq.consumer_limit.limit_consumer is 'null: default for the consumers of the queue';

create table pgq.consumer_state (
    state_queue    integer     not null,
    state_consumer text        not null,
    state          text        not null,
    state_since    timestamptz not null default pg_catalog.now(),
    last_tick      bigint,
    tick_time      timestamptz,
    tick_event_seq bigint,
    note           text,

    constraint consumer_state_pkey primary key (state_queue, state_consumer),
    constraint consumer_state_queue_fkey foreign key (state_queue) references pgq.queue (queue_id) on delete cascade,
    constraint consumer_state_state check (state in ('warned', 'paused', 'resumed', 'detached'))
);
comment on table pgq.consumer_state is 'consumers that are over their limit, or were detached for it';
comment on column pgq.consumer_state.last_tick is 'position: the last finished tick, with its time and event counter';

create table pgq.consumer_action (
    action_id       bigint      not null generated always as identity,
    action_queue    integer     not null,
    action_consumer text        not null,
    action_time     timestamptz not null default pg_catalog.now(),
    action          text        not null,
    lag             interval,
    lag_ticks       bigint,
    lag_events      bigint,
    last_tick       bigint,
    note            text,

    constraint consumer_action_pkey primary key (action_id),
    constraint consumer_action_queue_fkey foreign key (action_queue) references pgq.queue (queue_id) on delete cascade
);
create index consumer_action_consumer_idx on pgq.consumer_action (action_queue, action_consumer, action_id);
comment on table pgq.consumer_action is 'what was done about consumers over their limit, with the figures of that time';

create table pgq.event_key (
    queue_id   integer     not null references pgq.queue (queue_id) on delete cascade,
    event_key  text        not null,
    ev_id      bigint      not null,
    expires_at timestamptz not null,

    constraint event_key_pkey primary key (queue_id, event_key)
);
create index event_key_expires_idx on pgq.event_key (expires_at);
comment on table pgq.event_key is 'keys of pgq.insert_event_once, until they expire';

create table pgq.delayed_event (
    ev_queue      integer     not null references pgq.queue (queue_id) on delete cascade,
    ev_id         bigint      not null,
    ev_deliver_at timestamptz not null,
    ev_type       text,
    ev_data       text,
    ev_extra1     text,
    ev_extra2     text,
    ev_extra3     text,
    ev_extra4     text,

    constraint delayed_event_pkey primary key (ev_queue, ev_id)
);
create index delayed_event_due_idx on pgq.delayed_event (ev_deliver_at);
comment on table pgq.delayed_event is 'events of pgq.insert_event_at that wait for their time';

create table pgq.queue_right (
    queue_id    integer     not null references pgq.queue (queue_id) on delete cascade,
    role_id     regrole     not null,
    queue_right text        not null,
    granted_at  timestamptz not null default pg_catalog.now(),

    constraint queue_right_pkey primary key (queue_id, role_id, queue_right),
    constraint queue_right_kind check (queue_right in ('read', 'write'))
);
comment on table pgq.queue_right is 'rights of roles on single queues, see pgq.grant_queue';
comment on column pgq.queue_right.role_id is 'renames do not matter; a dump holds the name';

create view pgq.queue_grants as
select q.queue_name, o.rolname::text as role_name, r.queue_right, r.granted_at
  from pgq.queue_right r
  join pgq.queue q on q.queue_id = r.queue_id
  join pg_catalog.pg_roles o on o.oid = r.role_id;
comment on view pgq.queue_grants is 'who has rights on single queues';

create table pgq.consumer_holder (
    sub_id   integer not null,
    queue_id integer not null references pgq.queue (queue_id) on delete cascade,
    role_id  regrole not null,

    constraint consumer_holder_pkey primary key (sub_id)
);
create index consumer_holder_queue on pgq.consumer_holder (queue_id);
comment on table pgq.consumer_holder is 'to which role a consumer belongs that was registered by a right on its queue';

create table pgq.caller_key (
    secret text not null
);
comment on table pgq.caller_key is 'what makes the proofs of view pgq.caller; nobody but the owner may read it';
insert into pgq.caller_key (secret)
values (pg_catalog.gen_random_uuid()::text || pg_catalog.gen_random_uuid()::text);

-- A definer function cannot know whose code calls it: session_user and the
-- setting role name the session, which may just run the code of another role
-- (an index expression while a superuser analyses, a definer function). In a
-- view current_user is the caller, and the secret is read as the owner.
create view pgq.caller with (security_barrier) as
select u.id || ':' || pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.concat_ws(
       '/', k.secret, u.id, pg_catalog.pg_backend_pid(), extract(epoch from pg_catalog.now()), k.secret), 'UTF8')), 'hex') as proof
  from pgq.caller_key k
 cross join (select pg_catalog.quote_ident(current_user)::pg_catalog.regrole::pg_catalog.oid as id) u;
comment on view pgq.caller is 'proof who the current user is, for this session and transaction';
