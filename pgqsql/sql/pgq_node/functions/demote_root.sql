create or replace function pgq_node.demote_root(
    i_queue_name text,
    i_step integer,
    i_new_provider text,
    out ret_code integer,
    out ret_note text,
    out last_tick bigint)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.demote_root(3)
    --
    --     Turns a root into a branch, in three transactions of the caller.
    --     Step 1 closes the queue by its flags; it may be repeated. Step 2
    --     waits for the writers that are open, closes the event tables
    --     themselves, so that no transaction with an older snapshot writes any
    --     more, and makes the final tick; every call makes one more. Step 3
    --     makes the node a branch of the new provider.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_step - 1, 2 or 3
    --     i_new_provider - step 3: node to read from; else ignored
    --
    -- Returns:
    --     200 - done; last_tick is the final tick after steps 2 and 3
    --     301 - the node is no root
    --     404 - no node of this queue
    --
    -- Raises:
    --     step 2 before step 1, or in a transaction that is not read
    --         committed; unknown step; unknown provider
    --
    -- Calls:
    --     pgq.ticker(4)
    --     pgq.close_queue(1)
    --     pgq.quote_fqname(1)
    --     pgq_node._top_tick(1)
    --
    -- Tables:
    --     read   - pgq.queue
    --     update - pgq.queue, pgq_node.node_info, pgq_node.local_state
    --
    -- Locks:
    --     the node's row in node_info; step 2: the queue's tables against
    --         writers
    -- ----------------------------------------------------------------
declare
    v_type   text;
    v_worker text;
    v_queue  pgq.queue%rowtype;
begin
    select n.node_type, n.worker_name into v_type, v_worker
      from pgq_node.node_info n
     where n.queue_name = i_queue_name
       for update;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown queue: ' || coalesce(i_queue_name, '<null>');
        return;
    end if;
    if v_type <> 'root' then
        ret_code := 301;
        ret_note := 'Node is no root: ' || i_queue_name;
        return;
    end if;

    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    if i_step > 1 and not (v_queue.queue_disable_insert and v_queue.queue_external_ticker) then
        raise exception 'queue % is open, step 1 comes first', i_queue_name
            using errcode = 'object_not_in_prerequisite_state';
    end if;

    ret_code := 200;
    if i_step = 1 then
        update pgq.queue q
           set queue_disable_insert = true, queue_external_ticker = true
         where q.queue_name = i_queue_name;
        ret_note := 'Step 1: writes are disabled on ' || i_queue_name;
    elsif i_step = 2 then
        if current_setting('transaction_isolation') <> 'read committed' then
            raise exception 'the final tick of queue % needs a transaction at read committed', i_queue_name
                using errcode = 'object_not_in_prerequisite_state';
        end if;
        execute 'lock table ' || pgq.quote_fqname(v_queue.queue_data_pfx) || ' in exclusive mode';
        perform pgq.close_queue(i_queue_name);
        last_tick := nextval(v_queue.queue_tick_seq::regclass);
        perform pgq.ticker(i_queue_name, last_tick, now(), nextval(v_queue.queue_event_seq::regclass));
        ret_note := 'Step 2: final tick ' || last_tick;
    elsif i_step = 3 then
        last_tick := pgq_node._top_tick(i_queue_name);
        update pgq_node.node_info n set node_type = 'branch' where n.queue_name = i_queue_name;
        update pgq_node.local_state s
           set provider_node = i_new_provider, last_tick_id = last_tick, uptodate = false
         where s.queue_name = i_queue_name and s.consumer_name = v_worker;
        ret_note := 'Step 3: demoted to branch below ' || i_new_provider;
    else
        raise exception 'step % of demote_root does not exist', coalesce(i_step::text, 'null')
            using errcode = 'invalid_parameter_value';
    end if;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
