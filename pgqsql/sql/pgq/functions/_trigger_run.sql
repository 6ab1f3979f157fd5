create or replace function pgq._trigger_run(
    i_kind text, i_table oid, i_op text, i_when text, i_args text[], i_new anyelement, i_old anyelement)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._trigger_run(7)
    --
    --     Writes the event of one row change or one truncate; the common part
    --     of the change capture triggers.
    --
    -- Parameters:
    --     i_kind  - logutriga, sqltriga or jsontriga
    --     i_table - TG_RELID
    --     i_op    - TG_OP
    --     i_when  - TG_WHEN
    --     i_args  - TG_ARGV
    --     i_new   - new row; of a delete the old one
    --     i_old   - old row; of an insert the new one
    --
    -- Returns:
    --     true when the change shall be done, false when SKIP prevents it
    --
    -- Raises:
    --     denied; bad arguments; key changed; no key, or null in it; when= is
    --     null; as pgq.insert_event(7)
    --
    -- Calls:
    --     pgq._trigger_options(1), pgq._trigger_event_sql(4),
    --     pgq._trigger_truncate(4), pgq.insert_event(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_event(7)
    -- ----------------------------------------------------------------
declare
    v_options jsonb;
    v_event   record;
    v_name    text := i_table::regclass;
begin
    if current_setting('session_replication_role') = 'local' then
        return true;
    end if;
    v_options := pgq._trigger_options(i_args);
    if v_options ? 'deny' then
        raise exception 'table % is closed for changes: % denied by trigger', v_name, lower(i_op)
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if v_options ? 'skip' and i_when = 'AFTER' then
        raise exception 'trigger on table %: SKIP works in a BEFORE trigger only', v_name
            using errcode = 'invalid_parameter_value';
    end if;
    if i_op = 'TRUNCATE' then
        perform pgq._trigger_truncate(i_kind, i_table, v_options, i_args[0]);
        return true;
    end if;

    execute pgq._trigger_event_sql(i_kind, i_table, i_op, v_options) into v_event using i_new, i_old;
    if v_event.wanted is null then
        raise exception 'trigger on table %: when= gives null', v_name using errcode = 'null_value_not_allowed';
    end if;
    if v_event.key_changed then
        raise exception 'update of the key of table % cannot be logged', v_name
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if v_event.key_null and i_kind = 'sqltriga' then
        raise exception 'null in the key of table % cannot be logged', v_name
            using errcode = 'null_value_not_allowed';
    end if;
    if v_event.wanted
       and (v_event.logged_changed or not v_event.changed or not v_options ? 'ignore') then
        perform pgq.insert_event(i_args[0], v_event.ev_type, v_event.ev_data, v_event.ev_extra1,
                                 v_event.ev_extra2, v_event.ev_extra3, v_event.ev_extra4);
    end if;
    return not v_options ? 'skip';
end;
$$ language plpgsql volatile;
