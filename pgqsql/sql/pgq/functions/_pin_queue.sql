create or replace function pgq._pin_queue(i_queue_name text)
returns void as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._pin_queue(1)
    --
    --     Refuses a writer whose snapshot is older than the last change of the
    --     queue. A repeatable read or serializable transaction goes on seeing
    --     the data table that was current when its snapshot was taken; writing
    --     there after a rotation would lose the event. The row lock makes the
    --     server compare versions: an outdated snapshot fails with 40001. A
    --     key share lock would not do: it overlooks updates that leave the key
    --     alone, and a rotation is one.
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
    --     share lock on the queue row, until the transaction ends: waits for a
    --     rotation, and a rotation is skipped meanwhile
    -- ----------------------------------------------------------------
begin
    perform 1 from pgq.queue q where q.queue_name = i_queue_name for share;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
