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
