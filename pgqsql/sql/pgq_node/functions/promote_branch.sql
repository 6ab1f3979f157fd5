create or replace function pgq_node.promote_branch(i_queue_name text, out ret_code integer, out ret_note text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.promote_branch(1)
    --
    --     Turns a branch into a root: the queue is open, ticked by its own
    --     ticker, and its numbers go on above everything that was copied into
    --     it. Whether the branch has everything is for the caller to know.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     200 - done
    --     301 - the node is no branch
    --     404 - no node of this queue
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.open_queue(1)
    --     pgq.seq_setval(2)
    --     pgq_node._top_tick(1)
    --     pgq_node._top_event(1)
    --
    -- Tables:
    --     update - pgq.queue, pgq_node.node_info, pgq_node.local_state
    --
    -- Locks:
    --     the node's row in node_info
    -- ----------------------------------------------------------------
declare
    v_type   text;
    v_self   text;
    v_worker text;
    v_tick   bigint;
    v_event  bigint;
    v_queue  pgq.queue%rowtype;
begin
    select n.node_type, n.node_name, n.worker_name into v_type, v_self, v_worker
      from pgq_node.node_info n
     where n.queue_name = i_queue_name
       for update;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown queue: ' || coalesce(i_queue_name, '<null>');
        return;
    end if;
    if v_type <> 'branch' then
        ret_code := 301;
        ret_note := 'Node is no branch: ' || i_queue_name;
        return;
    end if;

    v_tick := pgq_node._top_tick(i_queue_name);
    v_event := pgq_node._top_event(i_queue_name);
    update pgq.queue q
       set queue_disable_insert = false, queue_external_ticker = false
     where q.queue_name = i_queue_name
    returning q.* into v_queue;
    perform pgq.open_queue(i_queue_name);
    perform pgq.seq_setval(v_queue.queue_tick_seq, v_tick);
    if v_event is not null then
        perform pgq.seq_setval(v_queue.queue_event_seq, v_event);
    end if;
    update pgq_node.node_info n set node_type = 'root' where n.queue_name = i_queue_name;
    update pgq_node.local_state s
       set provider_node = v_self, last_tick_id = v_tick, uptodate = false
     where s.queue_name = i_queue_name and s.consumer_name = v_worker;
    ret_code := 200;
    ret_note := 'Branch ' || v_self || ' is root now';
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
