-- Tables of the PgQ contract. Column names, types and order are fixed: clients
-- read these tables directly.

create table pgq.consumer (
    co_id   serial not null,
    co_name text   not null,

    constraint consumer_pkey primary key (co_id),
    constraint consumer_name_uq unique (co_name)
);
-- for the members of a cooperative group, whose names begin with that of the
-- group and a dot
create index consumer_prefix_idx on pgq.consumer (co_name text_pattern_ops);
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
    constraint sub_queue_fkey foreign key (sub_queue) references pgq.queue (queue_id),
    constraint sub_consumer_fkey foreign key (sub_consumer) references pgq.consumer (co_id)
);
-- sub_batch has no index on purpose, see pgq._find_batch; its values come from
-- a sequence and are unique without one.
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
