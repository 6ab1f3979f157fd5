create or replace function pgq.plus_maint_operations(out func_name text, out func_arg text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.plus_maint_operations(0)
    --
    --     What the maintenance process has to do for the additions, in the
    --     form of pgq.maint_operations. skyd's own pgq.maint_operations lists
    --     it too; beside the C extension skyd's daemon asks for it.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     rows of func_name and func_arg; none while nothing is configured
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue_option, pgq.consumer_limit, pgq.consumer_state,
    --              pgq.delayed_event, pgq.event_key, pgq.queue_right,
    --              pgq.consumer_holder, pgq.subscription
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    func_arg := null;
    if exists (select 1 from pgq.delayed_event d where d.ev_deliver_at <= now()) then
        func_name := 'pgq.maint_delayed_events';
        return next;
    end if;
    if exists (select 1 from pgq.event_key k where k.expires_at <= now()) then
        func_name := 'pgq.maint_event_keys';
        return next;
    end if;
    if exists (select 1
                 from pgq.queue_option o
                where o.option_name in ('max_retries', 'dead_letter_keep')) then
        func_name := 'pgq.maint_dead_letters';
        return next;
    end if;
    if exists (select 1 from pgq.consumer_limit)
       or exists (select 1 from pgq.consumer_state t where t.state <> 'detached') then
        func_name := 'pgq.maint_consumer_limits';
        return next;
    end if;
    if exists (select 1 from pgq.queue_right r where not exists (select 1 from pg_roles o where o.oid = r.role_id))
       or exists (select 1
                    from pgq.consumer_holder h
                   where not exists (select 1 from pg_roles o where o.oid = h.role_id)
                      or not exists (select 1 from pgq.subscription s where s.sub_id = h.sub_id and s.sub_queue = h.queue_id)) then
        func_name := 'pgq.maint_queue_rights';
        return next;
    end if;
end;
$$ language plpgsql stable set search_path = pg_catalog, pgq, pg_temp;
