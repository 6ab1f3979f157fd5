create or replace function pgq._check_triggers(
    out area text, out object text, out severity text, out problem text, out remedy text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._check_triggers(0)
    --
    --     The part of pgq.check() about capture triggers: their queue is there and
    --     their arguments are such that they will not raise when they fire.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     rows as pgq.check()
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none; its remedies name pgq.create_queue(1)
    --
    -- Tables:
    --     read   - pgq.queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_trigger record;
    v_args    text[];
    v_options text[];
    v_end     integer;
begin
    for v_trigger in
        select t.tgargs, t.tgtype, t.tgenabled, p.proname, t.tgname || ' on ' || t.tgrelid::regclass as label,
               format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass) as away,
               exists (select 1 from pg_index i where i.indrelid = t.tgrelid and i.indisprimary) as keyed
          from pg_trigger t
          join pg_proc p on p.oid = t.tgfoid
         where p.pronamespace = 'pgq'::regnamespace
           and p.proname in ('logutriga', 'sqltriga', 'jsontriga', 'logtriga')
           and not t.tgisinternal
         order by t.tgrelid::regclass::text, t.tgname
    loop
        -- arguments are ended by a zero byte each
        v_args := '{}';
        while position('\x00'::bytea in v_trigger.tgargs) > 0 loop
            v_end := position('\x00'::bytea in v_trigger.tgargs);
            v_args := v_args || convert_from(substring(v_trigger.tgargs from 1 for v_end - 1), getdatabaseencoding());
            v_trigger.tgargs := substring(v_trigger.tgargs from v_end + 1);
        end loop;
        v_options := v_args[2:];

        area := 'trigger';
        object := v_trigger.label;
        severity := 'error';
        remedy := v_trigger.away || '; create it again with other arguments';
        if cardinality(v_args) = 0 then
            problem := 'has no queue name and raises on every change';
            return next;
            continue;
        end if;
        if not 'deny' = any (v_options) and not exists (select 1 from pgq.queue q where q.queue_name = v_args[1]) then
            problem := 'its queue ' || v_args[1] || ' is missing, it raises on every change';
            remedy := format('select pgq.create_queue(%L); or %s', v_args[1], v_trigger.away);
            return next;
            remedy := v_trigger.away || '; create it again with other arguments';
        end if;
        if v_trigger.proname <> 'logtriga' then
            for problem in
                select 'does not know its argument ' || o || ' and raises on every change'
                  from unnest(v_options) o
                 where o not in ('SKIP', 'backup', 'deny')
                   and o !~ '^(ignore|pkey|when|ev_type|ev_data|ev_extra[1-4])='
            loop
                return next;
            end loop;
            if 'SKIP' = any (v_options) and v_trigger.tgtype & 2 = 0 then
                problem := 'has SKIP but fires after the change, it raises on every change';
                return next;
            end if;
            if v_trigger.tgtype & 32 > 0 and exists (select 1 from unnest(v_options) o where o not in ('SKIP', 'deny')) then
                problem := 'has arguments that truncate does not know, it raises on every truncate';
                return next;
            end if;
            if v_trigger.tgtype & 24 > 0 and not v_trigger.keyed and not 'deny' = any (v_options)
               and not exists (select 1 from unnest(v_options) o where o like 'pkey=%') then
                problem := 'its table has no primary key, it raises on every update and delete';
                remedy := 'add a primary key, or create the trigger again with pkey=';
                return next;
            end if;
        end if;
        if v_trigger.tgenabled = 'D' then
            severity := 'warning';
            problem := 'is disabled, changes are not logged';
            remedy := 'alter table .. enable trigger ..';
            return next;
        end if;
    end loop;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pg_temp;
