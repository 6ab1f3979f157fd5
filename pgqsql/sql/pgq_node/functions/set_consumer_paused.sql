create or replace function pgq_node.set_consumer_paused(
    i_queue_name text,
    i_consumer_name text,
    i_paused boolean,
    out ret_code integer,
    out ret_note text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.set_consumer_paused(3)
    --
    --     Pauses or resumes a cascaded consumer. A changed row counts as
    --     unread until the consumer confirms.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_consumer_name - consumer name
    --     i_paused - true: do nothing
    --
    -- Returns:
    --     200 - changed
    --     201 - was so already; uptodate is untouched
    --     404 - no such consumer
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
declare
    v_paused boolean;
begin
    select s.paused into v_paused
      from pgq_node.local_state s
     where s.queue_name = i_queue_name and s.consumer_name = i_consumer_name
       for update;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown consumer: ' || coalesce(i_queue_name, '<null>') || '/' || coalesce(i_consumer_name, '<null>');
        return;
    end if;
    if v_paused = i_paused then
        ret_code := 201;
        ret_note := 'Consumer ' || i_consumer_name || case when i_paused then ' is paused already' else ' is not paused' end;
        return;
    end if;
    update pgq_node.local_state s
       set paused = i_paused, uptodate = false
     where s.queue_name = i_queue_name and s.consumer_name = i_consumer_name;
    ret_code := 200;
    ret_note := 'Consumer ' || i_consumer_name || case when i_paused then ' paused' else ' resumed' end;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
