create or replace function pgq.drop_group(i_queue_name text, i_group_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.drop_group(2)
    --
    --     Removes an ordered group with its consumer. So does unregistering the
    --     consumer.
    --
    --     Security definer: consumers have no right to write the tables of
    --     groups.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_group_name - group name
    --
    -- Returns:
    --     1 - removed
    --     0 - there was none
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.unregister_consumer(2)
    --
    -- Tables:
    --     read   - pgq.queue
    --     delete - pgq.slot_group
    --
    -- Locks:
    --     the row of the group
    -- ----------------------------------------------------------------
begin
    delete from pgq.slot_group g
     using pgq.queue q
     where q.queue_id = g.queue_id and q.queue_name = i_queue_name and g.group_name = i_group_name;
    if not found then
        return 0;
    end if;
    perform pgq.unregister_consumer(i_queue_name, i_group_name);
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
