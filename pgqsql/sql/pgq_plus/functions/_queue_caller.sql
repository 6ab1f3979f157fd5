create or replace function pgq._queue_caller(
    i_queue_name text, i_right text, i_caller text, out caller oid, out holder oid)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._queue_caller(3)
    --
    --     Lets those pass who have a right on a queue: by a grant of
    --     pgq.grant_queue to the caller or a role whose rights it has, or as
    --     members of pgq_admin, pgq_reader (read), pgq_writer (write).
    --
    --     Called under a pinned search path only: one of its own would be a
    --     third of the cost.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_right      - read or write
    --     i_caller     - pgq.caller_proof() of the caller
    --
    -- Returns:
    --     caller - role that calls
    --     holder - role that has the grant; null for members of the old roles
    --
    -- Raises:
    --     insufficient_privilege - no right on the queue, or i_caller is no proof
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.caller_key, pgq.queue, pgq.queue_right
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_role oid := substring(i_caller from '^([0-9]{1,10}):')::oid;
begin
    -- the formula of view pgq.caller; all in one query, which costs less than three
    select case when pg_has_role(v_role, 'pgq_admin', 'usage')
                  or pg_has_role(v_role, case i_right when 'write' then 'pgq_writer' else 'pgq_reader' end, 'usage') then 0
                else (select r.role_id
                        from pgq.queue q
                        join pgq.queue_right r on r.queue_id = q.queue_id and r.queue_right = i_right
                       where q.queue_name = i_queue_name and pg_has_role(v_role, r.role_id, 'usage')
                       order by r.role_id = v_role desc, r.role_id
                       limit 1) end
      into holder
      from pgq.caller_key k
     where i_caller = v_role || ':' || encode(sha256(convert_to(
           concat_ws('/', k.secret, v_role, pg_backend_pid(), extract(epoch from now()), k.secret), 'UTF8')), 'hex');
    if not found then
        raise exception 'the caller is not proven'
            using errcode = 'insufficient_privilege', hint = 'Leave out parameter i_caller.';
    end if;
    if holder is null then
        raise exception 'no right to % queue %', i_right, coalesce(i_queue_name, '<null>')
            using errcode = 'insufficient_privilege',
                  hint = 'An administrator gives it with pgq.grant_queue.';
    end if;
    caller := v_role;
    holder := nullif(holder, 0);
end;
$$ language plpgsql volatile;
