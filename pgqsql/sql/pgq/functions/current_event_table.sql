create or replace function pgq.current_event_table(x_queue_name text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.current_event_table(1)
    --
    --     Data table that takes the inserts of a queue, for producers that
    --     write with INSERT or COPY themselves. The answer is valid within the
    --     current transaction only: the transaction's txid is taken before the
    --     table is read, which is what makes a rotation in between harmless.
    --
    -- Parameters:
    --     x_queue_name - queue name
    --
    -- Returns:
    --     table name pgq.event_<queue>_<table>
    --
    -- Raises:
    --     queue not found; queue closed for writing, unless
    --     session_replication_role is replica; 40001 when a repeatable read
    --     transaction is older than the last change of the queue
    --
    -- Calls:
    --     pgq._pin_queue(1)
    --
    -- Tables:
    --     read   - pgq.queue
    --
    -- Locks:
    --     none at read committed, else as pgq._pin_queue(1)
    -- ----------------------------------------------------------------
declare
    v_txid     bigint := txid_current();
    v_queue_id integer;
    v_slot     integer;
    v_closed   boolean;
begin
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        perform pgq._pin_queue(x_queue_name);
    end if;
    select q.queue_id, q.queue_cur_table, q.queue_disable_insert
      into v_queue_id, v_slot, v_closed
      from pgq.queue q
     where q.queue_name = x_queue_name;
    if not found then
        raise exception 'queue not found: %', coalesce(x_queue_name, '<null>')
            using errcode = 'undefined_object';
    end if;
    if v_closed and current_setting('session_replication_role') <> 'replica' then
        raise exception 'insert into queue disallowed: %', x_queue_name
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    return 'pgq.event_' || v_queue_id || '_' || v_slot;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
