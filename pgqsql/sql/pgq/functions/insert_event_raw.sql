create or replace function pgq.insert_event_raw(
    queue_name text, ev_id bigint, ev_time timestamptz, ev_owner integer, ev_retry integer,
    ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.insert_event_raw(11)
    --
    --     Inserts an event with full control over its columns. The event
    --     sequence advances by one also when ev_id is given: that is how the
    --     ticker learns of the event.
    --
    --     Order matters: own txid first, then the current table, then the id.
    --     A rotation that commits in between has a step 2 above our txid, so
    --     batches still look into the table written here.
    --
    -- Parameters:
    --     queue_name - queue name
    --     ev_id      - event id, null: next of the sequence
    --     ev_time    - creation time, null: now()
    --     ev_owner   - sub_id of the only subscription that gets it, null: all
    --     ev_retry   - number of redeliveries, null: first delivery
    --     ev_type    - free for the producer
    --     ev_data    - free for the producer
    --     ev_extra1  - free for the producer
    --     ev_extra2  - free for the producer
    --     ev_extra3  - free for the producer
    --     ev_extra4  - free for the producer
    --
    -- Returns:
    --     event id
    --
    -- Raises:
    --     queue not found; queue closed for writing, unless
    --     session_replication_role is replica; queue_per_tx_limit reached;
    --     40001 when a repeatable read transaction is older than the last
    --     change of the queue
    --
    -- Calls:
    --     pgq._pin_queue(1), pgq._check_tx_limit(3)
    --
    -- Tables:
    --     read   - pgq.queue
    --     insert - current data table of the queue
    --
    -- Locks:
    --     none at read committed, else as pgq._pin_queue(1)
    -- ----------------------------------------------------------------
declare
    v_txid  bigint := txid_current();
    v_queue pgq.queue%rowtype;
    v_next  bigint;
begin
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        perform pgq._pin_queue(insert_event_raw.queue_name);
    end if;
    select q.* into v_queue
      from pgq.queue q
     where q.queue_name = insert_event_raw.queue_name;
    if not found then
        raise exception 'queue not found: %', coalesce(insert_event_raw.queue_name, '<null>')
            using errcode = 'undefined_object';
    end if;
    -- first of all: as in the original an event that is refused costs an id
    v_next := nextval(v_queue.queue_event_seq::regclass);
    if v_queue.queue_disable_insert and current_setting('session_replication_role') <> 'replica' then
        raise exception 'insert into queue disallowed: %', v_queue.queue_name
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if v_queue.queue_per_tx_limit is not null then
        perform pgq._check_tx_limit(v_queue.queue_id, v_queue.queue_per_tx_limit, v_txid);
    end if;
    insert_event_raw.ev_id := coalesce(insert_event_raw.ev_id, v_next);
    execute format(
        'insert into pgq.event_%s_%s (ev_id, ev_time, ev_txid, ev_owner, ev_retry, ev_type, ev_data,'
        ' ev_extra1, ev_extra2, ev_extra3, ev_extra4) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)',
        v_queue.queue_id, v_queue.queue_cur_table)
    using insert_event_raw.ev_id, coalesce(insert_event_raw.ev_time, now()), v_txid,
          insert_event_raw.ev_owner, insert_event_raw.ev_retry,
          insert_event_raw.ev_type, insert_event_raw.ev_data, insert_event_raw.ev_extra1,
          insert_event_raw.ev_extra2, insert_event_raw.ev_extra3, insert_event_raw.ev_extra4;
    return insert_event_raw.ev_id;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
