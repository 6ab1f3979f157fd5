create or replace function pgq_node._top_event(i_queue_name text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node._top_event(1)
    --
    --     Highest number of the events that were copied into a queue since its
    --     newest tick but one, with those that a worker copied and did not
    --     tick any more.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     event id; null when there is none
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.quote_fqname(1)
    --
    -- Tables:
    --     read - pgq.queue, pgq.tick, the event tables
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_queue pgq.queue%rowtype;
    v_since bigint;
    v_top   bigint;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    select min(txid_snapshot_xmin(t.tick_snapshot)) into v_since
      from (select t.tick_snapshot
              from pgq.tick t
             where t.tick_queue = v_queue.queue_id
             order by t.tick_id desc
             limit 2) t;
    for i in 0 .. v_queue.queue_ntables - 1 loop
        execute format('select greatest($1, max(ev_id)) from %s where ev_txid >= $2',
                       pgq.quote_fqname(v_queue.queue_data_pfx || '_' || i))
           into v_top using v_top, v_since;
    end loop;
    return v_top;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_node, pg_temp;
