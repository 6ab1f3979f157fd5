create or replace function pgq.revoke_queue(i_queue_name text, i_role text, i_right text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.revoke_queue(3)
    --
    --     Takes back a right of pgq.grant_queue. Consumers that the role has
    --     registered stay, and hold back rotation, until somebody unregisters
    --     them.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_role       - role name
    --     i_right      - read or write
    --
    -- Returns:
    --     1 - taken back
    --     0 - was not granted
    --
    -- Raises:
    --     invalid_parameter_value - unknown right
    --     undefined_object - queue or role not found
    --
    -- Calls:
    --     pgq._queue_right_ids(3)
    --
    -- Tables:
    --     delete - pgq.queue_right
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_ids   record;
    v_count integer;
begin
    select k.* into v_ids from pgq._queue_right_ids(i_queue_name, i_role, i_right) k;
    delete from pgq.queue_right r
     where r.queue_id = v_ids.queue_id and r.role_id = v_ids.role_id and r.queue_right = i_right;
    get diagnostics v_count = row_count;
    return v_count;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
