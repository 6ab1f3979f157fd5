create or replace function pgq.grant_perms(x_queue_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.grant_perms(1)
    --
    --     Sets the rights on the tables and sequences of one queue again. The
    --     tables get the rights of pgq.event_template, so a right granted
    --     there reaches all queues.
    --
    --     Security definer: only the owner may grant.
    --
    -- Parameters:
    --     x_queue_name - queue name
    --
    -- Returns:
    --     1
    --
    -- Raises:
    --     queue not found
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
declare
    v_id    integer;
    v_ntab  integer;
    v_names text;
    v_right record;
begin
    select q.queue_id, q.queue_ntables into v_id, v_ntab
      from pgq.queue q
     where q.queue_name = x_queue_name;
    if not found then
        raise exception 'queue not found: %', coalesce(x_queue_name, '<null>')
            using errcode = 'undefined_object';
    end if;

    v_names := 'pgq.event_' || v_id;
    for i in 0 .. v_ntab - 1 loop
        v_names := v_names || ', pgq.event_' || v_id || '_' || i;
    end loop;
    execute format('revoke all on %s from public, pgq_reader, pgq_writer, pgq_admin', v_names);
    for v_right in
        select string_agg(distinct a.privilege_type, ', ') as rights,
               case when a.grantee = 0 then 'public' else a.grantee::regrole::text end as grantee
          from pg_class c
         cross join lateral aclexplode(c.relacl) a
         where c.oid = 'pgq.event_template'::regclass
           and a.grantee <> c.relowner
         group by a.grantee
    loop
        execute format('grant %s on %s to %s', v_right.rights, v_names, v_right.grantee);
    end loop;

    execute format('grant select on sequence pgq.event_%s_id_seq, pgq.event_%s_tick_seq to public', v_id, v_id);
    execute format('grant usage on sequence pgq.event_%s_id_seq to pgq_admin', v_id);
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
