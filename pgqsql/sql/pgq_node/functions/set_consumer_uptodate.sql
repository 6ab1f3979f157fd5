create or replace function pgq_node.set_consumer_uptodate(
    i_queue_name text,
    i_consumer_name text,
    i_uptodate boolean,
    out ret_code integer,
    out ret_note text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.set_consumer_uptodate(3)
    --
    --     Confirms that a cascaded consumer has read its row; it acts on it
    --     from then on.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_consumer_name - consumer name
    --     i_uptodate - true: the consumer has read its row
    --
    -- Returns:
    --     200 - set
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
       set uptodate = i_uptodate
     where s.queue_name = i_queue_name and s.consumer_name = i_consumer_name;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown consumer: ' || coalesce(i_queue_name, '<null>') || '/' || coalesce(i_consumer_name, '<null>');
        return;
    end if;
    ret_code := 200;
    ret_note := 'Consumer uptodate = set';
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
