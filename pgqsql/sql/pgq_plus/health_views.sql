-- The health functions as views, for people and for tools that read relations.
create or replace view pgq.queue_health as
    select h.* from pgq.get_queue_health(null) h;
comment on view pgq.queue_health is 'health of all queues: see pgq.get_queue_health';

create or replace view pgq.consumer_health as
    select h.* from pgq.get_consumer_health(null, null) h;
comment on view pgq.consumer_health is 'health of all consumers: see pgq.get_consumer_health';
