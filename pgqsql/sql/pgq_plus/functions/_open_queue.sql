create or replace function pgq._open_queue(
    i_queue_name text, out queue_id integer, out event_table text, out event_seq text, out tx_limit integer,
    out slot integer, out generated boolean)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._open_queue(1)
    --
    --     Prepares the transaction to insert into a queue by itself: takes the
    --     own txid first and reads which data table is current in a later
    --     statement, so that a rotation in between is harmless. At repeatable
    --     read and above a row lock makes the server compare versions: a
    --     snapshot that is older than the last change of the queue fails. The
    --     lock is given back at once. pgq.current_event_table(1) of the
    --     original does neither.
    --
    --     Called under a pinned search path only.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     queue_id    - queue
    --     event_table - data table to insert into, valid in this transaction
    --     event_seq   - sequence of event ids
    --     tx_limit    - queue_per_tx_limit; not null: only pgq.insert_event
    --                   and pgq.insert_event_raw can count
    --     slot        - number of event_table
    --     generated   - schema skyd_gen is kept for this PgQ
    --
    -- Raises:
    --     queue not found; queue closed for writing, unless
    --     session_replication_role is replica; 40001 when a repeatable read
    --     transaction is older than the last change of the queue
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read - pgq.queue
    --
    -- Locks:
    --     at repeatable read and above: share lock on the queue row for the
    --     moment of the call
    -- ----------------------------------------------------------------
declare
    v_txid  bigint := txid_current();
    v_queue record;
begin
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        begin
            perform 1 from pgq.queue q where q.queue_name = i_queue_name for share;
            raise exception 'the lock is not needed any longer' using errcode = 'SKYD0';
        exception
            when sqlstate 'SKYD0' then null;
        end;
    end if;
    select q.queue_id, q.queue_cur_table, q.queue_disable_insert, q.queue_per_tx_limit, q.queue_event_seq
      into v_queue
      from pgq.queue q
     where q.queue_name = i_queue_name;
    if not found then
        raise exception 'queue not found: %', coalesce(i_queue_name, '<null>') using errcode = 'undefined_object';
    end if;
    if v_queue.queue_disable_insert and current_setting('session_replication_role') <> 'replica' then
        raise exception 'insert into queue disallowed: %', i_queue_name
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    queue_id := v_queue.queue_id;
    -- not by queue_data_pfx, which admins can change: callers execute it as their owner
    event_table := concat('pgq.event_', v_queue.queue_id, '_', v_queue.queue_cur_table);
    event_seq := v_queue.queue_event_seq;
    tx_limit := v_queue.queue_per_tx_limit;
    slot := v_queue.queue_cur_table;
    generated := to_regproc('pgq._make_inserters') is not null;
end;
$$ language plpgsql volatile;
