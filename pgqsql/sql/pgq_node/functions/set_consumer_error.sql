create or replace function pgq_node.set_consumer_error(
    i_queue_name text,
    i_consumer_name text,
    i_error_msg text,
    out ret_code integer,
    out ret_note text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.set_consumer_error(3)
    --
    --     Notes what went wrong in a cascaded consumer.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_consumer_name - consumer name
    --     i_error_msg - text of the error; null clears it
    --
    -- Returns:
    --     100 - set
    --     101 - no such consumer
    --
    -- Raises:
    --     none
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
       set cur_error = i_error_msg
     where s.queue_name = i_queue_name and s.consumer_name = i_consumer_name;
    if not found then
        ret_code := 101;
        ret_note := 'Unknown consumer: ' || coalesce(i_queue_name, '<null>') || '/' || coalesce(i_consumer_name, '<null>');
        return;
    end if;
    ret_code := 100;
    ret_note := 'Consumer error set';
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
