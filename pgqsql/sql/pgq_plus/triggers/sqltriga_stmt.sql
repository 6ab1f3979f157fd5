create or replace function pgq.sqltriga_stmt()
returns trigger as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.sqltriga_stmt(0)
    --
    --     Change capture trigger for whole statements: writes the same events
    --     as the row trigger pgq.sqltriga, as
    --     parts of SQL statements, all events of
    --     a statement by one INSERT: cheaper for statements that change many
    --     rows, dearer for those that change one or a few.
    --
    --     Made "after insert .. referencing new table as new_rows", "after
    --     update .. referencing old table as old_rows new table as new_rows",
    --     "after delete .. referencing old table as old_rows", each "for each
    --     statement"; arguments as of the row trigger. pgq.capture_table makes
    --     all of them and looks for what would change the order of events.
    --     Runs with the rights of the user that changes the table, who needs
    --     pgq_writer.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     null
    --
    -- Raises:
    --     as the row trigger; a table with partitions or children; used for
    --     each row
    --
    -- Calls:
    --     skyd.capture_truncate(4), skyd.capture_changes(7),
    --     pgq.insert_events(7), the encoder
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_events(7)
    -- ----------------------------------------------------------------
declare
    v_events record;
    v_rows   bigint;
    v_ids    bigint[];
    v_new    record;
    v_old    record;
    v_single text;
    v_done   boolean;
begin
    if pg_catalog.current_setting('session_replication_role') operator(pg_catalog.=) 'local' then
        return null;
    end if;
    if tg_op operator(pg_catalog.=) 'TRUNCATE' then
        perform skyd.capture_truncate('sqltriga', tg_relid, tg_when, tg_argv);
        return null;
    end if;
    if tg_level operator(pg_catalog.<>) 'STATEMENT' then
        raise exception 'trigger % on table %: use it for each statement', tg_name, tg_relid::pg_catalog.regclass
            using errcode = 'invalid_parameter_value';
    end if;
    if tg_op operator(pg_catalog.=) 'DELETE' then
        select pg_catalog.count(*) into v_rows from old_rows;
    else
        select pg_catalog.count(*) into v_rows from new_rows;
    end if;
    if v_rows operator(pg_catalog.=) 0 then
        return null;
    end if;
    if v_rows operator(pg_catalog.=) 1 then
        -- a query for one row would cost more to plan than to run
        v_single := pg_catalog.concat('skyd_gen.o', tg_relid, '_',
                                      pg_catalog.to_hex(pg_catalog.hashtextextended(tg_name::pg_catalog.text, 0)));
        if pg_catalog.to_regproc(v_single) is not null then
            if tg_op operator(pg_catalog.<>) 'DELETE' then
                select * into v_new from new_rows;
            end if;
            if tg_op operator(pg_catalog.<>) 'INSERT' then
                select * into v_old from old_rows;
            end if;
            execute pg_catalog.concat('call ', v_single, '($1, $2, $3, true)') into v_done using v_new, v_old, tg_op;
            if v_done then
                return null;
            end if;
        end if;
    end if;
    for v_events in
        execute skyd.capture_changes('sqltriga', tg_relid, tg_name::pg_catalog.text, tg_op, tg_when, tg_argv,
                                     v_rows operator(pg_catalog.>) 20000)
    loop
        if v_events.key_changed then
            raise exception 'update of the key of table % cannot be logged', tg_relid::pg_catalog.regclass
                using errcode = 'object_not_in_prerequisite_state';
        end if;
        if v_events.key_null then
            raise exception 'null in the key of table % cannot be logged', tg_relid::pg_catalog.regclass
                using errcode = 'null_value_not_allowed';
        end if;
        if v_events.no_answer then
            raise exception 'trigger on table %: when= gives null', tg_relid::pg_catalog.regclass
                using errcode = 'null_value_not_allowed';
        end if;
        v_ids := pgq.insert_events(tg_argv[0], v_events.types, v_events.datas, v_events.extra1, v_events.extra2,
                                   v_events.extra3, v_events.extra4);
    end loop;
    return null;
end;
$$ language plpgsql volatile;
