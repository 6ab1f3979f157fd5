create or replace function pgq.release_slots(i_queue_name text, i_group_name text, i_worker text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.release_slots(3)
    --
    --     Gives back all slots of a worker that leaves, so that the others need
    --     not wait for its leases to run out.
    --
    --     Security definer: consumers have no right to write the tables of
    --     groups.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_group_name - group name
    --     i_worker     - name of the worker; one name for each process, never
    --                    used by two at once
    --
    -- Returns:
    --     number of slots given back
    --
    -- Raises:
    --     no such group
    --
    -- Calls:
    --     pgq._find_group(3)
    --
    -- Tables:
    --     delete - pgq.group_worker
    --     update - pgq.group_slot
    --
    -- Locks:
    --     the row of the group
    -- ----------------------------------------------------------------
declare
    v_group pgq.slot_group%rowtype := pgq._find_group(i_queue_name, i_group_name, true);
    v_held  integer;
begin
    delete from pgq.group_worker w where w.group_id = v_group.group_id and w.worker = i_worker;
    update pgq.group_slot s
       set worker = null, expires = null
     where s.group_id = v_group.group_id and s.worker = i_worker;
    get diagnostics v_held = row_count;
    return v_held;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
