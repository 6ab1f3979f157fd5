create or replace function skyd.capture_row(
    i_kind text, i_table oid, i_op text, i_when text, i_args text[], i_new anyelement, i_old anyelement)
returns void as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_row(7)
    --
    --     Writes the event of one row change the slow way: makes the SQL for
    --     this row only. It is the way of triggers that have no encoder (yet),
    --     or none for the table as it is now, and of all that is refused.
    --
    --     Runs with the rights and the search path of whoever writes, because
    --     the expressions of the trigger do.
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
    --     nothing
    --
    -- Raises:
    --     denied; bad arguments; key changed; no key, or null in it; when= is
    --     null; 40001 when the table changed after the snapshot; as
    --     pgq.insert_event(7)
    --
    -- Calls:
    --     skyd.capture_options(1), skyd.capture_refuse(4),
    --     skyd.capture_check(2), skyd.capture_event(6), pgq.insert_event(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_event(7)
    -- ----------------------------------------------------------------
declare
    v_options jsonb;
    v_sql     record;
    v_first   record;
    v_event   record;
begin
    v_options := skyd.capture_options(i_args);
    perform skyd.capture_refuse(i_table, i_op, i_when, v_options);
    perform skyd.capture_check(i_table, i_new);
    v_sql := skyd.capture_event(i_kind, i_table, i_op, v_options, '($1)', '($2)');
    execute pg_catalog.format('select %s as key_changed, %s as passed_over, %s as key_null', coalesce(v_sql.key_changed, 'false'),
                              coalesce(v_sql.passed_over, 'false'), coalesce(v_sql.key_null, 'false'))
       into v_first using i_new, i_old;
    if v_first.key_changed then
        raise exception 'update of the key of table % cannot be logged', i_table::pg_catalog.regclass
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if v_first.passed_over then
        return;
    end if;
    if v_first.key_null then
        raise exception 'null in the key of table % cannot be logged', i_table::pg_catalog.regclass
            using errcode = 'null_value_not_allowed';
    end if;
    execute pg_catalog.format(
                'select %s as wanted, %s as ev_type, %s as ev_data, %s as ev_extra1, %s as ev_extra2, %s as ev_extra3, %s as ev_extra4',
                coalesce(v_sql.wanted, 'true'), v_sql.ev_type, v_sql.ev_data,
                v_sql.ev_extra1, v_sql.ev_extra2, v_sql.ev_extra3, v_sql.ev_extra4)
       into v_event using i_new, i_old;
    if v_event.wanted is null then
        raise exception 'trigger on table %: when= gives null', i_table::pg_catalog.regclass
            using errcode = 'null_value_not_allowed';
    end if;
    if v_event.wanted then
        perform pgq.insert_event(i_args[0], v_event.ev_type, v_event.ev_data, v_event.ev_extra1,
                                 v_event.ev_extra2, v_event.ev_extra3, v_event.ev_extra4);
    end if;
end;
$$ language plpgsql volatile;
