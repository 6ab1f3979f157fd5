create or replace function pgq.batch_event_tables(x_batch_id bigint)
returns setof text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.batch_event_tables(1)
    --
    --     Data tables that may hold events of a batch: the previous one when
    --     the batch reaches below the last rotation (step 2 is above every
    --     transaction that wrote there), the current one when it reaches above
    --     (a transaction that wrote there and is visible at the batch's end
    --     committed after step 1).
    --
    -- Parameters:
    --     x_batch_id - open batch
    --
    -- Returns:
    --     table names, one or two
    --
    -- Raises:
    --     batch not open
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.subscription, pgq.queue, pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_batch    record;
    v_previous boolean;
begin
    select q.queue_id, q.queue_cur_table, q.queue_ntables, q.queue_switch_step1, q.queue_switch_step2,
           txid_snapshot_xmin(prev.tick_snapshot) as first_txid,
           txid_snapshot_xmax(cur.tick_snapshot) as last_txid
      into v_batch
      from pgq.subscription s
      join pgq.queue q on q.queue_id = s.sub_queue
      join pgq.tick prev on prev.tick_queue = s.sub_queue and prev.tick_id = s.sub_last_tick
      join pgq.tick cur on cur.tick_queue = s.sub_queue and cur.tick_id = s.sub_next_tick
     where s.sub_batch = x_batch_id;
    if not found then
        raise exception 'batch not found: %', coalesce(x_batch_id::text, '<null>')
            using errcode = 'undefined_object';
    end if;
    v_previous := v_batch.queue_switch_step2 is null or v_batch.first_txid <= v_batch.queue_switch_step2;
    if v_previous then
        return next format('pgq.event_%s_%s', v_batch.queue_id,
            (v_batch.queue_cur_table - 1 + v_batch.queue_ntables) % v_batch.queue_ntables);
    end if;
    if not v_previous or v_batch.last_txid > v_batch.queue_switch_step1 then
        return next format('pgq.event_%s_%s', v_batch.queue_id, v_batch.queue_cur_table);
    end if;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
