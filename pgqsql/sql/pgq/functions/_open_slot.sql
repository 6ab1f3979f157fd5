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
    --     All names are qualified: a search path of its own would cost more
    --     than the rest. Small transactions feel it.
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
    v_txid pg_catalog.int8 := pg_catalog.txid_current();
begin
    if pg_catalog.left(pg_catalog.current_setting('transaction_isolation'), 4) operator(pg_catalog.<>) 'read' then
        perform pgq._pin_queue(i_queue_name);
    end if;
    perform pg_catalog.set_config(pg_catalog.concat('skyd.slot_', q.queue_id), q.queue_cur_table::pg_catalog.text, true)
       from pgq.queue q
      where q.queue_name operator(pg_catalog.=) i_queue_name
        and not q.queue_disable_insert
        and q.queue_per_tx_limit is null;
    return found;
end;
$$ language plpgsql volatile;
