create or replace function pgq.queue_insert_event(
    i_queue_name text, i_type text, i_data text, i_extra1 text default null, i_extra2 text default null,
    i_extra3 text default null, i_extra4 text default null, i_caller text default pgq.caller_proof())
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.queue_insert_event(8)
    --
    --     pgq.insert_event(7) for a role with right write on this queue.
    --
    --     Security definer: a right on one queue is no right on the functions and
    --     tables of all.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_type       - event type, free for the producer
    --     i_data       - event data, free for the producer
    --     i_extra1     - free for the producer
    --     i_extra2     - free for the producer
    --     i_extra3     - free for the producer
    --     i_extra4     - free for the producer
    --     i_caller     - leave it out: proof of who calls
    --
    -- Returns:
    --     event id
    --
    -- Raises:
    --     insufficient_privilege - no right write on the queue
    --     otherwise as pgq.insert_event(7)
    --
    -- Calls:
    --     pgq._queue_caller(3), pgq.insert_event(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_event(7)
    -- ----------------------------------------------------------------
declare
    v_who record;
    v_id  bigint;
begin
    -- an assignment, which runs without a query
    v_who := pgq._queue_caller(i_queue_name, 'write', i_caller);
    -- what pgq.insert_event does first; a definer function in another one costs as much as the event
    if to_regproc('pgq._make_inserters') is not null then
        v_id := skyd_gen.insert_event(hashtext(i_queue_name), i_queue_name, i_type, i_data, i_extra1, i_extra2, i_extra3, i_extra4);
    end if;
    if v_id is null then
        v_id := pgq.insert_event(i_queue_name, i_type, i_data, i_extra1, i_extra2, i_extra3, i_extra4);
    end if;
    return v_id;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
