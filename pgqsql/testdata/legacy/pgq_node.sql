-- A plain-SQL install of an early pgq_node 3.x, by its published layout: no attributes of nodes, no last error, no foreign
-- key from subscribers to nodes.
create schema pgq_node;
grant usage on schema pgq_node to public;

create table pgq_node.node_location (
    queue_name text not null,
    node_name text not null,
    node_location text not null,
    dead boolean not null default false,
    primary key (queue_name, node_name)
);
create table pgq_node.node_info (
    queue_name text not null primary key,
    node_type text not null,
    node_name text not null,
    worker_name text,
    combined_queue text,
    foreign key (queue_name, node_name) references pgq_node.node_location,
    check (node_type in ('root', 'branch', 'leaf')),
    check (case when node_type in ('root', 'branch') then worker_name is not null and combined_queue is null
                when node_type = 'leaf' then worker_name is not null else false end)
);
create table pgq_node.local_state (
    queue_name text not null,
    consumer_name text not null,
    provider_node text not null,
    last_tick_id bigint not null,
    paused boolean not null default false,
    uptodate boolean not null default false,
    primary key (queue_name, consumer_name),
    foreign key (queue_name) references pgq_node.node_info,
    foreign key (queue_name, provider_node) references pgq_node.node_location
);
create table pgq_node.subscriber_info (
    queue_name text not null,
    subscriber_node text not null,
    worker_name text not null,
    watermark_name text not null,
    primary key (queue_name, subscriber_node),
    foreign key (queue_name, subscriber_node) references pgq_node.node_location,
    foreign key (worker_name) references pgq.consumer (co_name),
    foreign key (watermark_name) references pgq.consumer (co_name)
);

create function pgq_node.is_root_node(i_queue_name text) returns bool
    as $$ begin raise exception 'old pgq_node.is_root_node was called'; end $$ language plpgsql security definer;
create function pgq_node.version() returns text
    as $$ begin return '3.1'; end $$ language plpgsql;

insert into pgq_node.node_location values ('q', 'one', 'dbname=one'), ('q', 'two', 'dbname=two');
insert into pgq_node.node_info values ('q', 'root', 'one', 'w', null);
insert into pgq_node.local_state values ('q', 'w', 'one', 4);
