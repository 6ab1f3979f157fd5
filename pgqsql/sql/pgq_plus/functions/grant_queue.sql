create or replace function pgq.grant_queue(i_queue_name text, i_role text, i_right text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.grant_queue(3)
    --
    --     Gives a role a right on one queue, for the functions pgq.queue_*.
    --     Members of pgq_reader and pgq_writer do not need it. The right goes
    --     with the queue and with the role.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_role       - role name
    --     i_right      - read or write
    --
    -- Returns:
    --     1 - granted
    --     0 - was granted already
    --
    -- Raises:
    --     invalid_parameter_value - unknown right
    --     undefined_object - queue or role not found
    --
    -- Calls:
    --     pgq._queue_right_ids(3)
    --
    -- Tables:
    --     insert - pgq.queue_right
    --
    -- Locks:
    --     key share lock on the queue row
    -- ----------------------------------------------------------------
declare
    v_ids   record;
    v_count integer;
begin
    select k.* into v_ids from pgq._queue_right_ids(i_queue_name, i_role, i_right) k;
    insert into pgq.queue_right (queue_id, role_id, queue_right)
    values (v_ids.queue_id, v_ids.role_id, i_right)
        on conflict do nothing;
    get diagnostics v_count = row_count;
    return v_count;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
