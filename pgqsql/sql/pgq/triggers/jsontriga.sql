create or replace function pgq.jsontriga()
returns trigger as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.jsontriga(0)
    --
    --     Change capture trigger: writes each row change to a queue, the row
    --     as a JSON object.
    --
    --     The first trigger argument is the queue name; further ones are SKIP,
    --     ignore=, pkey=, backup, when=, ev_type= to ev_extra4= and deny. Runs
    --     with the rights of the user that changes the table, who needs
    --     pgq_writer.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     the row; null when SKIP prevents the change
    --
    -- Raises:
    --     as pgq._trigger_run(7); used for each statement on anything but
    --     truncate
    --
    -- Calls:
    --     pgq._trigger_run(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_event(7)
    -- ----------------------------------------------------------------
declare
    v_do boolean;
begin
    if tg_op = 'TRUNCATE' then
        perform pgq._trigger_run('jsontriga', tg_relid, tg_op, tg_when, tg_argv, null::text, null::text);
        return null;
    end if;
    if tg_level <> 'ROW' and current_setting('session_replication_role') <> 'local' then
        raise exception 'trigger % on table %: use it for each row', tg_name, tg_relid::regclass
            using errcode = 'invalid_parameter_value';
    end if;
    case
        when tg_level <> 'ROW' then return null;
        when tg_op = 'INSERT' then
            v_do := pgq._trigger_run('jsontriga', tg_relid, tg_op, tg_when, tg_argv, new, new);
        when tg_op = 'UPDATE' then
            v_do := pgq._trigger_run('jsontriga', tg_relid, tg_op, tg_when, tg_argv, new, old);
        else
            v_do := pgq._trigger_run('jsontriga', tg_relid, tg_op, tg_when, tg_argv, old, old);
            new := old;
    end case;
    if v_do then
        return new;
    end if;
    return null;
end;
$$ language plpgsql volatile;
