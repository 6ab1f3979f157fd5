create or replace function pgq._queue_right_ids(
    i_queue_name text, i_role text, i_right text, out queue_id integer, out role_id oid)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._queue_right_ids(3)
    --
    --     Checks the arguments of pgq.grant_queue and pgq.revoke_queue.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_role       - role name
    --     i_right      - read or write
    --
    -- Returns:
    --     numbers of the queue and the role
    --
    -- Raises:
    --     invalid_parameter_value - unknown right
    --     undefined_object - queue or role not found
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    if i_right is null or i_right not in ('read', 'write') then
        raise exception 'unknown right: %', coalesce(i_right, '<null>')
            using errcode = 'invalid_parameter_value', hint = 'Rights: read, write.';
    end if;
    select q.queue_id into queue_id from pgq.queue q where q.queue_name = i_queue_name;
    if not found then
        raise exception 'queue not found: %', coalesce(i_queue_name, '<null>') using errcode = 'undefined_object';
    end if;
    select r.oid into role_id from pg_roles r where r.rolname = i_role;
    if not found then
        raise exception 'role not found: %', coalesce(i_role, '<null>') using errcode = 'undefined_object';
    end if;
end;
$$ language plpgsql stable set search_path = pg_catalog, pgq, pg_temp;
