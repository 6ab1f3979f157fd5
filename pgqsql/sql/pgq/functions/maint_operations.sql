create or replace function pgq.maint_operations(out func_name text, out func_arg text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.maint_operations(0)
    --
    --     What the maintenance process has to do now, in order. Rows named
    --     vacuum are statements on the table func_arg; everything else is
    --     called as func_name(func_arg), or without argument when that is
    --     null, each in a transaction of its own. A first result column that
    --     is a non-zero integer asks to be called again at once.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     rows of func_name and func_arg
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.maint_tables_to_vacuum(0), pgq._has_function(2),
    --     pgq._inserters_stale(0), skyd.capture_leftovers(0),
    --     pgq.plus_maint_operations(0) when it is installed
    --
    -- Tables:
    --     read   - pgq.queue; pgq_node.node_info and londiste.seq_info when
    --              those schemas are installed
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_step2 boolean;
begin
    -- rotation
    v_step2 := exists (select 1 from pgq.queue q where q.queue_switch_step2 is null);
    func_name := 'pgq.maint_rotate_tables_step1';
    for func_arg in
        select q.queue_name
          from pgq.queue q
         where q.queue_switch_step2 is not null
           and q.queue_switch_time + q.queue_rotation_period < now()
         order by q.queue_name
    loop
        v_step2 := true;
        return next;
    end loop;
    if v_step2 then
        func_name := 'pgq.maint_rotate_tables_step2';
        func_arg := null;
        return next;
    end if;

    -- extra maintenance of single queues
    return query
        select m.name, q.queue_name
          from pgq.queue q
         cross join lateral unnest(q.queue_extra_maint) with ordinality m (name, n)
         order by q.queue_name, m.n;

    -- what is added to PgQ
    if pgq._has_function('pgq', 'plus_maint_operations') then
        return query execute 'select p.func_name, p.func_arg from pgq.plus_maint_operations() p';
    end if;

    -- tables the server does not vacuum
    return query select 'vacuum'::text, v from pgq.maint_tables_to_vacuum() v;

    -- what a concurrent change of queues left undone
    if exists (select 1 from pgq._inserters_stale()) then
        func_name := 'pgq._make_inserters';
        func_arg := null;
        return next;
    end if;

    -- encoders of triggers that are gone
    if exists (select 1 from skyd.capture_leftovers()) then
        func_name := 'skyd.capture_clean';
        func_arg := null;
        return next;
    end if;

    -- the layers above
    if pgq._has_function('pgq_node', 'maint_watermark') then
        return query execute
            'select ''pgq_node.maint_watermark''::text, n.queue_name'
            ' from pgq_node.node_info n where n.node_type = ''root'' order by n.queue_name';
    end if;
    if pgq._has_function('londiste', 'root_check_seqs') then
        return query execute
            'select distinct ''londiste.root_check_seqs''::text, n.queue_name'
            ' from pgq_node.node_info n join londiste.seq_info s on s.queue_name = n.queue_name'
            ' where n.node_type = ''root'' and s.local order by 2';
    end if;
    if pgq._has_function('londiste', 'periodic_maintenance') then
        func_name := 'londiste.periodic_maintenance';
        func_arg := null;
        return next;
    end if;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
