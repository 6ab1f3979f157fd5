create or replace function pgq._find_group(i_queue_name text, i_group_name text, i_lock boolean)
returns pgq.slot_group as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._find_group(3)
    --
    --     Finds an ordered group.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_group_name - group name
    --     i_lock       - true: lock it against everything that changes who works
    --                    on what
    --
    -- Returns:
    --     the row
    --
    -- Raises:
    --     no such group on that queue
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue, pgq.slot_group
    --
    -- Locks:
    --     with i_lock the row of the group, until the transaction ends
    -- ----------------------------------------------------------------
declare
    v_group pgq.slot_group%rowtype;
begin
    if i_lock then
        select g.* into v_group
          from pgq.slot_group g
          join pgq.queue q on q.queue_id = g.queue_id
         where q.queue_name = i_queue_name and g.group_name = i_group_name
           for update of g;
    else
        select g.* into v_group
          from pgq.slot_group g
          join pgq.queue q on q.queue_id = g.queue_id
         where q.queue_name = i_queue_name and g.group_name = i_group_name;
    end if;
    if not found then
        raise exception 'group % is not registered on queue %',
                coalesce(i_group_name, '<null>'), coalesce(i_queue_name, '<null>')
            using errcode = 'undefined_object', hint = 'Make it with pgq.create_group.';
    end if;
    return v_group;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
