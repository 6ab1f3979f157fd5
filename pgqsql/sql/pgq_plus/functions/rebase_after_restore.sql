create or replace function pgq.rebase_after_restore()
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.rebase_after_restore(0)
    --
    --     Repairs the queues of a database that came from pg_dump and was
    --     restored into a server with smaller transaction ids. There all ticks
    --     lie in the future: no tick can be made and no batch would ever hold
    --     a new event. Call it until it returns 0, before the ticker runs.
    --
    --     Ticks and events get new transaction ids below those of every running
    --     transaction, such that each event stays between the same two ticks:
    --     every consumer, also one with an open batch, gets exactly what it had
    --     not finished. Events that no tick had seen get the id of this
    --     transaction and come with the next tick, as do events that were
    --     written between the restore and this call. Positions, batch ids,
    --     event ids and retry events are not touched.
    --
    --     One id is needed for each tick of a queue. A server too young for it
    --     uses some up and repairs the queue in the next call.
    --
    --     Security definer: nobody else may change events.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     number of queues worked on; 0 - nothing to repair (left)
    --
    -- Raises:
    --     the transaction is not read committed; a queue got ticks since the
    --     restore (from outside)
    --
    -- Calls:
    --     pgq._is_from_the_future(1), pgq._rebase_queue(1)
    --
    -- Tables:
    --     read   - pgq.queue
    --     update - pgq.queue, pgq.tick, event tables
    --
    -- Locks:
    --     exclusive on pgq.queue, pgq.tick and the event tables of the queues
    --     that are repaired; waits for producers that are at work
    -- ----------------------------------------------------------------
declare
    v_queues integer[];
    v_id     integer;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'pgq.rebase_after_restore needs a read committed transaction'
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    select array_agg(q.queue_id order by q.queue_id) into v_queues
      from pgq.queue q
     where pgq._is_from_the_future(q.queue_id);
    if v_queues is null then
        return 0;
    end if;
    lock table pgq.queue, pgq.tick in exclusive mode;
    foreach v_id in array v_queues loop
        perform pgq._rebase_queue(v_id);
    end loop;
    return cardinality(v_queues);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
