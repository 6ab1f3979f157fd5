create or replace function pgq.capture_table(
    i_table regclass, i_queue_name text, i_format text default 'logutriga', i_level text default 'row',
    i_args text[] default '{}')
returns text[] as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.capture_table(5)
    --
    --     Makes the triggers that write the changes of a table to a queue. For
    --     each row: the trigger of the PgQ contract, named so that it fires
    --     before other row triggers, which keeps events in order. For each
    --     statement: three triggers with transition tables; refused where the
    --     order of events would be wrong. Truncate is captured in both.
    --
    --     Runs with the rights of the caller, who must be able to create
    --     triggers on the table.
    --
    -- Parameters:
    --     i_table      - table
    --     i_queue_name - queue
    --     i_format     - logutriga, sqltriga or jsontriga
    --     i_level      - row or statement
    --     i_args       - further arguments of the trigger, as ignore=, when=
    --
    -- Returns:
    --     names of the triggers; empty when they were there already
    --
    -- Raises:
    --     queue not found; format, level, an argument or a column of pkey= not
    --     known; statement level on a
    --     table with a hazard of pgq.capture_hazards(1); the table is captured
    --     into this queue in another way
    --
    -- Calls:
    --     pgq.capture_hazards(1)
    --
    -- Tables:
    --     read   - pgq.queue
    --
    -- Locks:
    --     share row exclusive on the table
    -- ----------------------------------------------------------------
declare
    v_args     text;
    v_hazard   text;
    v_name     text := '_capture_' || i_queue_name;
    v_events   text[];
    v_names    text[] := '{}';
    v_event    text;
    v_trigger  text;
    v_function text;
begin
    if not exists (select from pgq.queue q where q.queue_name = i_queue_name) then
        raise exception 'queue not found: %', coalesce(i_queue_name, '<null>') using errcode = 'undefined_object';
    end if;
    if i_format is null or i_format not in ('logutriga', 'sqltriga', 'jsontriga') then
        raise exception 'unknown format: %', coalesce(i_format, '<null>')
            using errcode = 'invalid_parameter_value', hint = 'Known: logutriga, sqltriga, jsontriga.';
    end if;
    if i_level is null or i_level not in ('row', 'statement') then
        raise exception 'unknown level: %', coalesce(i_level, '<null>')
            using errcode = 'invalid_parameter_value', hint = 'Known: row, statement.';
    end if;
    -- a trigger that does not know its arguments would refuse every change of the table
    select a into v_args
      from unnest(i_args) a
     where (a in ('backup', 'deny') or a ~ '^(ignore|pkey|when|ev_type|ev_data|ev_extra[1-4])=.') is not true
     limit 1;
    if found then
        raise exception 'argument % is not for capture triggers', coalesce(v_args, '<null>')
            using errcode = 'invalid_parameter_value',
                  hint = 'Known: ignore=, pkey=, backup, when=, ev_type=, ev_data=, ev_extra1= to ev_extra4=, deny. SKIP needs a BEFORE trigger.';
    end if;
    execute format('lock table %s in share row exclusive mode', i_table);
    select btrim(k) into v_args
      from unnest(i_args) a
     cross join regexp_split_to_table(substr(a, 6), ',') k
     where a like 'pkey=%'
       and not exists (select from pg_attribute c
                        where c.attrelid = i_table and c.attname = btrim(k) and c.attnum > 0 and not c.attisdropped)
     limit 1;
    if found then
        raise exception 'table % has no column % for pkey=', i_table, quote_ident(v_args) using errcode = 'undefined_column';
    end if;
    if i_level = 'statement' then
        select h.hazard into v_hazard from pgq.capture_hazards(i_table) h limit 1;
        if v_hazard is not null then
            raise exception 'table % cannot be captured by statement: %', i_table, v_hazard
                using errcode = 'object_not_in_prerequisite_state', hint = 'Capture it by row.';
        end if;
    end if;

    -- a name of 63 bytes at most, told apart by its end
    if octet_length(v_name) > 50 then
        v_name := '_capture_' || md5(i_queue_name);
    end if;
    v_args := (select string_agg(quote_literal(a), ', ' order by n)
                 from unnest(i_queue_name || i_args) with ordinality u (a, n));
    v_function := i_format || case i_level when 'row' then '' else '_stmt' end;
    v_events := case i_level when 'row' then array['insert or update or delete', 'truncate']
                             else array['insert', 'update', 'delete', 'truncate'] end;
    if exists (select from pg_trigger t join pg_proc p on p.oid = t.tgfoid
                where t.tgrelid = i_table and not t.tgisinternal and starts_with(t.tgname, v_name || ':')) then
        if exists (select from pg_trigger t join pg_proc p on p.oid = t.tgfoid
                    where t.tgrelid = i_table and starts_with(t.tgname, v_name || ':')
                      and (p.proname <> v_function
                           or t.tgtype & 32 = 0 and encode(t.tgargs, 'hex') <> (
                               select string_agg(encode(convert_to(a, getdatabaseencoding()), 'hex') || '00', '' order by n)
                                 from unnest(i_queue_name || i_args) with ordinality u (a, n)))) then
            raise exception 'table % is captured into queue % in another way', i_table, i_queue_name
                using errcode = 'duplicate_object', hint = format('Drop its triggers %s:* first.', v_name);
        end if;
        return v_names;
    end if;
    foreach v_event in array v_events loop
        v_trigger := v_name || ':' || case v_event when 'insert or update or delete' then 'change' else v_event end;
        execute format('create trigger %I after %s on %s%s for each %s execute function pgq.%I(%s)',
            v_trigger, v_event, i_table,
            case when i_level = 'row' then '' when v_event = 'insert' then ' referencing new table as new_rows'
                 when v_event = 'update' then ' referencing old table as old_rows new table as new_rows'
                 when v_event = 'delete' then ' referencing old table as old_rows' else '' end,
            case when i_level = 'row' and v_event <> 'truncate' then 'row' else 'statement' end,
            v_function, case v_event when 'truncate' then concat_ws(', ', quote_literal(i_queue_name), case when 'deny' = any (i_args) then '''deny''' end)
                                     else v_args end);
        v_names := v_names || v_trigger;
    end loop;
    return v_names;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
