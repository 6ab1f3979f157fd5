create or replace function pgq_node.set_consumer_completed(
    i_queue_name text,
    i_consumer_name text,
    i_tick_id bigint,
    out ret_code integer,
    out ret_note text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.set_consumer_completed(3)
    --
    --     Notes that a cascaded consumer is done with a batch, in the
    --     transaction of what it did, and clears its error.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_consumer_name - consumer name
    --     i_tick_id - end tick of the batch that is done
    --
    -- Returns:
    --     100 - set
    --     404 - no such consumer
    --
    -- Raises:
    --     the value is null
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     update - pgq_node.local_state
    --
    -- Locks:
    --     the consumer's row
    -- ----------------------------------------------------------------
begin
    update pgq_node.local_state s
       set last_tick_id = i_tick_id, cur_error = null
     where s.queue_name = i_queue_name and s.consumer_name = i_consumer_name;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown consumer: ' || coalesce(i_queue_name, '<null>') || '/' || coalesce(i_consumer_name, '<null>');
        return;
    end if;
    ret_code := 100;
    ret_note := 'Consumer position set';
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
