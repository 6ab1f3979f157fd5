create or replace function pgq_node.set_subscriber_watermark(
    i_queue_name text,
    i_node_name text,
    i_watermark bigint,
    out ret_code integer,
    out ret_note text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.set_subscriber_watermark(3)
    --
    --     Notes the lowest tick that a subscriber and the nodes below it still
    --     need.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_node_name - node name
    --     i_watermark - tick id
    --
    -- Returns:
    --     200 - moved
    --     100 - was there already
    --     404 - not a subscriber
    --     405 - it would go backwards
    --
    -- Raises:
    --     the tick is not present here
    --
    -- Calls:
    --     pgq.register_consumer_at(3)
    --     pgq_node._position(2)
    --
    -- Tables:
    --     read - pgq_node.subscriber_info
    --
    -- Locks:
    --     the watermark's subscription row
    -- ----------------------------------------------------------------
declare
    v_name text;
    v_old  bigint;
begin
    select s.watermark_name into v_name
      from pgq_node.subscriber_info s
     where s.queue_name = i_queue_name and s.subscriber_node = i_node_name;
    if not found then
        ret_code := 404;
        ret_note := 'Node is no subscriber: ' || coalesce(i_queue_name, '<null>') || '/' || coalesce(i_node_name, '<null>');
        return;
    end if;
    v_old := pgq_node._position(i_queue_name, v_name);
    if i_watermark < v_old then
        ret_code := 405;
        ret_note := 'Watermark of ' || i_node_name || ' cannot go back from ' || v_old || ' to ' || i_watermark;
        return;
    end if;
    if i_watermark = v_old then
        ret_code := 100;
        ret_note := 'Watermark is there already';
        return;
    end if;
    perform pgq.register_consumer_at(i_queue_name, v_name, i_watermark);
    ret_code := 200;
    ret_note := v_name || ' set to ' || coalesce(i_watermark::text, 'null');
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;
