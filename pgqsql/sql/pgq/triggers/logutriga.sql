create or replace function pgq.logutriga()
returns trigger as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.logutriga(0)
    --
    --     Change capture trigger: writes each row change to a queue, the row
    --     url encoded.
    --
    --     The first trigger argument is the queue name; further ones are SKIP,
    --     ignore=, pkey=, backup, when=, ev_type= to ev_extra4= and deny. Runs
    --     with the rights of the user that changes the table, who needs
    --     pgq_writer.
    --
    --     The work is done by an encoder, code made for this trigger of this
    --     table in schema skyd_gen. The first row that finds none has it
    --     made; an encoder finds out by itself when the table has changed.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     the row; null when SKIP prevents the change
    --
    -- Raises:
    --     as skyd.capture_row(7) and skyd.capture_truncate(4); used for each
    --     statement on anything but truncate
    --
    -- Calls:
    --     the generated code that leads to the encoder, skyd.capture_miss(9),
    --     skyd.capture_truncate(4)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_event(7)
    -- ----------------------------------------------------------------
declare
    v_done boolean;
begin
    if tg_level operator(pg_catalog.=) 'ROW' then
        if pg_catalog.current_setting('session_replication_role') operator(pg_catalog.<>) 'local' then
            if tg_op operator(pg_catalog.=) 'UPDATE' then
                v_done := skyd_gen.capture_update(tg_name, new, old);
                if v_done is not true then
                    perform skyd.capture_miss('logutriga', v_done, tg_relid, tg_name::pg_catalog.text, tg_op, tg_when, tg_argv, new, old);
                end if;
            elsif tg_op operator(pg_catalog.=) 'INSERT' then
                v_done := skyd_gen.capture_insert(tg_name, new);
                if v_done is not true then
                    perform skyd.capture_miss('logutriga', v_done, tg_relid, tg_name::pg_catalog.text, tg_op, tg_when, tg_argv, new, new);
                end if;
            else
                v_done := skyd_gen.capture_delete(tg_name, old);
                if v_done is not true then
                    perform skyd.capture_miss('logutriga', v_done, tg_relid, tg_name::pg_catalog.text, tg_op, tg_when, tg_argv, old, old);
                end if;
            end if;
            if tg_when operator(pg_catalog.=) 'AFTER' or pg_catalog.array_position(tg_argv[1:], 'SKIP') is not null then
                return null;
            end if;
        end if;
        if tg_op operator(pg_catalog.=) 'DELETE' then
            return old;
        end if;
        return new;
    end if;
    if pg_catalog.current_setting('session_replication_role') operator(pg_catalog.=) 'local' then
        return null;
    end if;
    if tg_op operator(pg_catalog.=) 'TRUNCATE' then
        perform skyd.capture_truncate('logutriga', tg_relid, tg_when, tg_argv);
        return null;
    end if;
    raise exception 'trigger % on table %: use it for each row', tg_name, tg_relid::pg_catalog.regclass
        using errcode = 'invalid_parameter_value';
end;
$$ language plpgsql volatile;
