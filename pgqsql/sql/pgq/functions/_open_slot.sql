create or replace function pgq._open_slot(i_queue_name text)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._open_slot(1)
    --
    --     Prepares the transaction to insert into a queue by generated code:
    --     takes the own txid first, then reads which data table is current,
    --     and leaves that as a hint in a transaction-local setting. A rotation
    --     that commits in between has a step 2 above our txid, so batches
    --     still look into the table found here.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     true  - a hint was left
    --     false - the queue is not there, closed or has a limit:
    --             pgq.insert_event_raw(11) knows what to say and to do
    --
    -- Raises:
    --     40001 when a repeatable read transaction is older than the last
    --     change of the queue
    --
    -- Calls:
    --     pgq._pin_queue(1)
    --
    -- Tables:
    --     read - pgq.queue
    --
    -- Locks:
    --     none at read committed, else as pgq._pin_queue(1)
    -- ----------------------------------------------------------------
declare
    v_txid bigint := txid_current();
    v_id   integer;
    v_slot integer;
begin
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        perform pgq._pin_queue(i_queue_name);
    end if;
    select q.queue_id, q.queue_cur_table into v_id, v_slot
      from pgq.queue q
     where q.queue_name = i_queue_name
       and not q.queue_disable_insert
       and q.queue_per_tx_limit is null;
    if not found then
        return false;
    end if;
    perform set_config('skyd.slot_' || v_id, v_slot::text, true);
    return true;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
