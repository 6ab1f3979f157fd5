create or replace function pgq._is_from_the_future(i_queue_id integer)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._is_from_the_future(1)
    --
    --     Tells whether a queue holds transaction ids that this server has not
    --     given out yet: in a tick, in a rotation or in an event.
    --
    -- Parameters:
    --     i_queue_id - queue
    --
    -- Returns:
    --     true or false; false for an unknown queue
    --
    -- Raises:
    --     a data table is missing
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue, pgq.tick, event tables
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_next  bigint := txid_snapshot_xmax(txid_current_snapshot());
    v_queue record;
    v_found boolean;
begin
    -- our own id may lie above, and events of ours with it
    v_next := greatest(v_next, txid_current_if_assigned());
    select q.queue_data_pfx, q.queue_ntables, q.queue_switch_step1, q.queue_switch_step2
      into v_queue
      from pgq.queue q
     where q.queue_id = i_queue_id;
    if not found then
        return false;
    end if;
    if v_queue.queue_switch_step1 > v_next or v_queue.queue_switch_step2 > v_next or exists (
           select 1 from pgq.tick t
            where t.tick_queue = i_queue_id and txid_snapshot_xmax(t.tick_snapshot) > v_next) then
        return true;
    end if;
    for i in 0 .. v_queue.queue_ntables - 1 loop
        execute format('select exists (select 1 from %s e where e.ev_txid > $1)', (v_queue.queue_data_pfx || '_' || i)::regclass)
           into v_found
          using v_next;
        if v_found then
            return true;
        end if;
    end loop;
    return false;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
