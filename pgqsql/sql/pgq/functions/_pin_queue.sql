create or replace function pgq._pin_queue(i_queue_name text)
returns void as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._pin_queue(1)
    --
    --     Refuses a writer whose snapshot is older than the last change of the
    --     queue. A repeatable read or serializable transaction goes on seeing
    --     the data table that was current when its snapshot was taken; writing
    --     there after a rotation would lose the event. A row lock makes the
    --     server compare versions: an outdated snapshot fails with 40001. A
    --     key share lock would not do: it overlooks updates that leave the key
    --     alone, and a rotation is one.
    --
    --     The lock is given back at once, by undoing the subtransaction that
    --     took it: held to the end, a stream of such writers would keep every
    --     rotation away. It is not needed any longer. The caller has taken its
    --     txid before, so a rotation that comes later has a step 2 above it,
    --     and batches look into the table written here. For the same reason
    --     one look for each transaction is enough.
    --
    --     Security definer: a row lock needs the right to update pgq.queue,
    --     which producers do not have.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     nothing
    --
    -- Raises:
    --     40001 when the queue row changed since the transaction's snapshot;
    --     the client repeats the transaction
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue
    --
    -- Locks:
    --     share lock on the queue row, for the moment of the call: waits for a
    --     rotation that is under way
    -- ----------------------------------------------------------------
declare
    v_id   integer;
    v_seen text;
begin
    select q.queue_id into v_id from pgq.queue q where q.queue_name = i_queue_name;
    v_seen := 'skyd.pinned_' || v_id;
    if v_id is null or current_setting(v_seen, true) = txid_current()::text then
        return;
    end if;
    begin
        perform 1 from pgq.queue q where q.queue_id = v_id for share;
        raise exception 'the lock is not needed any longer' using errcode = 'SKYD0';
    exception
        when sqlstate 'SKYD0' then
            perform set_config(v_seen, txid_current()::text, true);
    end;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
