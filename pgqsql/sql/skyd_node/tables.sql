create table skyd_node.term (
    queue_name  text        not null primary key,
    term        bigint      not null,
    root_node   text        not null,
    since       timestamptz not null default clock_timestamp(),
    claim       bigint      not null default 0,
    claim_node  text
);
comment on table skyd_node.term is 'newest term of each cascade that this node knows: it grows with every change of root';
comment on column skyd_node.term.root_node is 'node that became root with this term';
comment on column skyd_node.term.claim is 'largest term with which some node wanted to become root in place of a dead one';

create table skyd_node.operation (
    op_id       text        not null primary key,
    queue_name  text        not null,
    kind        text        not null,
    side        text        not null check (side in ('old', 'new')),
    old_node    text        not null,
    new_node    text        not null,
    term        bigint      not null,
    state       text        not null,
    start_tick  bigint,
    final_tick  bigint,
    held        text[]      not null default '{}',
    options     jsonb       not null default '{}',
    plan        text[]      not null default '{}',
    driver      text        not null,
    epoch       bigint      not null,
    driver_seen timestamptz not null default clock_timestamp(),
    started     timestamptz not null default clock_timestamp(),
    updated     timestamptz not null default clock_timestamp(),
    closed_at   timestamptz,
    opened_at   timestamptz,
    finished    timestamptz,
    last_error  text
);
create unique index operation_open_uq on skyd_node.operation (queue_name) where finished is null;
create index operation_queue_idx on skyd_node.operation (queue_name, started);
comment on table skyd_node.operation is 'journal of operations that change who is root; each of the two nodes has its own row of an operation';
comment on column skyd_node.operation.side is 'which of the two nodes this database is';
comment on column skyd_node.operation.start_tick is 'tick from which the proof compares both sides';
comment on column skyd_node.operation.held is 'queues whose workers here the operation has paused';
comment on column skyd_node.operation.epoch is 'grows with every process that takes the operation over: what an earlier one still sends is refused';
comment on column skyd_node.operation.closed_at is 'when writes were refused here';
comment on column skyd_node.operation.opened_at is 'when writes were taken here';

create table skyd_node.lost_event (
    queue_name  text        not null,
    term        bigint      not null,
    ev_id       bigint      not null,
    ev_time     timestamptz not null,
    ev_txid     bigint,
    ev_retry    integer,
    ev_type     text,
    ev_data     text,
    ev_extra1   text,
    ev_extra2   text,
    ev_extra3   text,
    ev_extra4   text,
    tick_id     bigint,
    cut_at      timestamptz not null default clock_timestamp(),
    handled_at  timestamptz,
    primary key (queue_name, term, ev_id)
);
comment on table skyd_node.lost_event is 'events that a root had taken when the cascade went on without it';
comment on column skyd_node.lost_event.term is 'term with which the cascade went on';
comment on column skyd_node.lost_event.tick_id is 'first tick of the old root that had the event in its batch; null: none had';
comment on column skyd_node.lost_event.handled_at is 'when somebody accepted the loss';
