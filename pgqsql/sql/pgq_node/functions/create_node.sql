create or replace function pgq_node.create_node(
    i_queue_name text,
    i_node_type text,
    i_node_name text,
    i_worker_name text,
    i_provider_name text,
    i_global_watermark bigint,
    i_combined_queue text,
    out ret_code integer,
    out ret_note text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.create_node(7)
    --
    --     Makes this database a node of a cascade. A root gets an open queue
    --     with a ticker of its own. A branch gets a queue that is closed for
    --     writing and ticked from outside; when it starts above tick 1, its
    --     first ticks are 1 and the watermark. A leaf gets no queue. The
    --     locations of the node and of its provider must be registered before.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_node_type - root, branch or leaf
    --     i_node_name - node name
    --     i_worker_name - name of the node's worker, its consumer name at the
    --         provider
    --     i_provider_name - node it reads from; null for a root
    --     i_global_watermark - tick it starts at; null for a root
    --     i_combined_queue - for a leaf: queue that takes its events; else
    --         null
    --
    -- Returns:
    --     200 - made
    --     401 - the node exists, or the arguments do not fit its type
    --
    -- Raises:
    --     unknown type; unknown location of the node or its provider; the
    --         watermark is no tick
    --
    -- Calls:
    --     pgq.create_queue(1)
    --     pgq.register_consumer(2)
    --     pgq.register_consumer_at(3)
    --
    -- Tables:
    --     read   - pgq.queue
    --     insert - pgq_node.node_info, pgq_node.local_state, pgq.tick
    --     update - pgq.queue
    --
    -- Locks:
    --     what making a queue locks
    -- ----------------------------------------------------------------
declare
    v_queue integer;
    v_tick  bigint;
begin
    if exists (select 1 from pgq_node.node_info n where n.queue_name = i_queue_name) then
        ret_code := 401;
        ret_note := 'Node for queue ' || i_queue_name || ' exists already';
        return;
    end if;
    if i_node_type = 'root' and (i_provider_name is not null or i_global_watermark is not null or i_combined_queue is not null) then
        ret_code := 401;
        ret_note := 'A root has neither provider nor watermark nor combined queue';
        return;
    end if;
    if i_node_type = 'branch' and (i_provider_name is null or i_global_watermark is null) then
        ret_code := 401;
        ret_note := 'A branch needs a provider and a watermark';
        return;
    end if;
    if i_node_type = 'leaf' and i_combined_queue is not null
            and not exists (select 1 from pgq_node.node_info n where n.queue_name = i_combined_queue) then
        ret_code := 401;
        ret_note := 'No node of the combined queue ' || i_combined_queue || ' in this database';
        return;
    end if;

    v_tick := i_global_watermark;
    if i_node_type = 'root' then
        perform pgq.create_queue(i_queue_name);
        perform pgq.register_consumer(i_queue_name, '.global_watermark');
        select t.tick_id into v_tick
          from pgq.queue q
          join pgq.tick t on t.tick_queue = q.queue_id
         where q.queue_name = i_queue_name
         order by t.tick_id desc
         limit 1;
    elsif i_node_type = 'branch' then
        perform pgq.create_queue(i_queue_name);
        update pgq.queue q
           set queue_external_ticker = true, queue_disable_insert = true
         where q.queue_name = i_queue_name
        returning q.queue_id into v_queue;
        if v_tick > 1 then
            insert into pgq.tick (tick_queue, tick_id, tick_time, tick_snapshot, tick_event_seq)
            values (v_queue, v_tick, now(), txid_current_snapshot(), 1);
        end if;
        perform pgq.register_consumer_at(i_queue_name, '.global_watermark', v_tick);
    end if;

    insert into pgq_node.node_info (queue_name, node_type, node_name, worker_name, combined_queue)
    values (i_queue_name, i_node_type, i_node_name, i_worker_name, i_combined_queue);
    insert into pgq_node.local_state (queue_name, consumer_name, provider_node, last_tick_id)
    values (i_queue_name, i_worker_name, case when i_node_type = 'root' then i_node_name else i_provider_name end, v_tick);

    ret_code := 200;
    ret_note := 'Node ' || i_node_name || ' made for queue ' || i_queue_name || ' with type ' || i_node_type;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
