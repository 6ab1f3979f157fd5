create or replace function pgq.maint_queue_rights()
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.maint_queue_rights(0)
    --
    --     Forgets the rights of roles that were dropped, and to whom consumers
    --     belonged that are not registered any more.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     0
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     delete - pgq.queue_right, pgq.consumer_holder
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    delete from pgq.queue_right r where not exists (select 1 from pg_roles o where o.oid = r.role_id);
    delete from pgq.consumer_holder h
     where not exists (select 1 from pg_roles o where o.oid = h.role_id)
        or not exists (select 1 from pgq.subscription s where s.sub_id = h.sub_id and s.sub_queue = h.queue_id);
    return 0;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
