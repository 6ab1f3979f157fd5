create or replace function skyd_node.promote(i_queue_name text, i_term bigint, i_above_tick bigint)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: skyd_node.promote(3)
    --
    --     Makes the branch here the root, with a new term. It does around
    --     pgq_node.promote_branch what the original leaves out: the event
    --     tables are open, both counters are above everything that was copied,
    --     and the first event of the new root is its own location with the
    --     term in ev_extra4, so that the term reaches all nodes.
    --
    --     Security definer: counters and tables belong to the installing role.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_term - new term, larger than all that are known here
    --     i_above_tick - ticks of the new root are above this one; null: above
    --         those that are here
    --
    -- Returns:
    --     the newest tick, from which the new root goes on
    --
    -- Raises:
    --     the term is not larger, or claimed by another node; the node is no
    --         branch
    --
    -- Calls:
    --     pgq_node.promote_branch(1)
    --     pgq.open_queue(1)
    --     pgq.seq_setval(2)
    --     pgq.quote_fqname(1)
    --     pgq.insert_event(7)
    --     skyd_node.learn_term(3)
    --
    -- Tables:
    --     read - pgq.queue, pgq.tick, pgq_node.node_info, pgq_node.node_location, skyd_node.term
    --
    -- Locks:
    --     the node's row in node_info; the event tables against writers until
    --         the transaction ends
    -- ----------------------------------------------------------------
declare
    v_queue    pgq.queue%rowtype;
    v_self     text;
    v_location text;
    v_code     integer;
    v_note     text;
    v_tick     bigint;
    v_event    bigint;
    v_since    bigint;
begin
    select n.node_name, l.node_location into v_self, v_location
      from pgq_node.node_info n
      join pgq_node.node_location l on l.queue_name = n.queue_name and l.node_name = n.node_name
     where n.queue_name = i_queue_name
       for update of n;
    if exists (select 1 from skyd_node.term t
                where t.queue_name = i_queue_name
                  and (t.term >= i_term or t.claim >= i_term and t.claim_node <> v_self)) then
        raise exception 'term % of queue % is over', i_term, i_queue_name
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    select p.ret_code, p.ret_note into v_code, v_note from pgq_node.promote_branch(i_queue_name) p;
    if v_code <> 200 then
        raise exception 'promote_branch: % (%)', v_note, v_code using errcode = 'object_not_in_prerequisite_state';
    end if;
    perform pgq.open_queue(i_queue_name);

    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    select max(t.tick_id) into v_tick from pgq.tick t where t.tick_queue = v_queue.queue_id;
    select min(txid_snapshot_xmin(t.tick_snapshot)) into v_since
      from (select t.tick_snapshot
              from pgq.tick t
             where t.tick_queue = v_queue.queue_id
             order by t.tick_id desc
             limit 2) t;
    for i in 0 .. v_queue.queue_ntables - 1 loop
        execute format('select greatest($1, max(ev_id)) from %s where ev_txid >= $2',
                       pgq.quote_fqname(v_queue.queue_data_pfx || '_' || i))
           into v_event using v_event, v_since;
    end loop;
    perform pgq.seq_setval(v_queue.queue_tick_seq, greatest(v_tick, i_above_tick));
    if v_event is not null then
        perform pgq.seq_setval(v_queue.queue_event_seq, v_event);
    end if;

    perform skyd_node.learn_term(i_queue_name, i_term, v_self);
    perform pgq.insert_event(i_queue_name, 'pgq.location-info', v_self, i_queue_name, v_location, 'false',
                             'term=' || i_term || '&root=' || v_self);
    return v_tick;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, skyd_node, pg_temp;
