create or replace function pgq._inserter_parts(
    i_queue_id integer, i_queue_name text,
    out func_name text, out arguments text, out result text, out body text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._inserter_parts(2)
    --
    --     The code that pgq.insert_event and pgq.insert_events should run in
    --     this database: for each data table INSERTs of its own, whose plans
    --     the server keeps.
    --
    --     For insert_event the queue is found by the hash of its name in a tree of
    --     comparisons, its table by a hint that pgq._open_slot(1) left in the
    --     transaction.
    --
    --     Every INSERT looks at the queue's row itself and writes nothing
    --     when anything there is not as expected: another table is current,
    --     the queue is closed, has a limit or another name. So neither code
    --     that is out of date nor a forged hint can do harm; the caller then
    --     takes the long way.
    --
    --     The encoders of capture triggers call capture_event, the same once
    --     more for callers without rights that want no id: security definer,
    --     and it opens the slot and takes the long way itself. A search path
    --     of its own would cost as much as all comparisons; all names are
    --     qualified instead.
    --
    --     For insert_events the caller has looked at the queue, and gives its
    --     id and the table. The rows number themselves, in their order; functions
    --     of rows in a FROM would store them once more.
    --
    --     Up to 32 queues are in one function, more in 64 that the first one
    --     calls, so that no function grows without limit, and a queue that
    --     comes or goes changes one of them.
    --
    --     The id is asked for afterwards, because RETURNING costs more than all
    --     comparisons; when nothing is written none is taken.
    --
    -- Parameters:
    --     i_queue_id   - only those of the 64 that have this queue; null: all
    --     i_queue_name - its name
    --
    -- Returns:
    --     func_name - function of schema skyd_gen
    --     arguments - its parameters
    --     result    - its type
    --     body      - its text
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq._inserter_tree(3); the code that it makes: pgq.insert_event(7),
    --     pgq._open_slot(1)
    --
    -- Tables:
    --     read - pgq.queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    c_columns constant text := '(ev_id, ev_time, ev_txid, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)';
    c_parts   constant integer := 64;
    v_hash    constant integer := case when i_queue_id is not null then hashtext(i_queue_name) & (c_parts - 1) end;
    v_id      constant integer := i_queue_id & (c_parts - 1);
    v_one     record;
    v_many    record;
    v_family  record;
    v_hashes  integer[];
    v_part    text[];
begin
    select coalesce(array_agg(l.hash order by l.hash), '{}') as keys,
           coalesce(array_agg(l.leaf order by l.hash), '{}') as leaves
      into v_one
      from (select distinct on (hashtext(q.queue_name)) hashtext(q.queue_name) as hash,
                   format(E'v_slot := pg_catalog.current_setting(%L, true);\n', 'skyd.slot_' || q.queue_id)
                   || string_agg(format(
                          E'%s v_slot operator(pg_catalog.=) %L then\n'
                          'insert into pgq.event_%s_%s %s\n'
                          'select pg_catalog.nextval(%L::pg_catalog.regclass), pg_catalog.now(), pg_catalog.txid_current(),'
                          ' i_type, i_data, i_extra1, i_extra2, i_extra3, i_extra4\n'
                          '  from pgq.queue q where q.queue_id operator(pg_catalog.=) %s and q.queue_name operator(pg_catalog.=) i_queue_name'
                          ' and q.queue_cur_table operator(pg_catalog.=) %s'
                          ' and not q.queue_disable_insert and q.queue_per_tx_limit is null;\n'
                          'if found then return pg_catalog.currval(%L::pg_catalog.regclass); end if;\n',
                          case when n.n = 0 then 'if' else 'elsif' end, n.n, q.queue_id, n.n, c_columns,
                          'pgq.event_' || q.queue_id || '_id_seq', q.queue_id, n.n,
                          'pgq.event_' || q.queue_id || '_id_seq'), '' order by n.n)
                   || E'end if;\n' as leaf
              from pgq.queue q
             cross join lateral generate_series(0, q.queue_ntables - 1) n (n)
             where i_queue_id is null or hashtext(q.queue_name) & (c_parts - 1) = v_hash
             group by q.queue_id
             order by hashtext(q.queue_name), q.queue_id) l;

    select coalesce(array_agg(l.queue_id order by l.queue_id), '{}') as keys,
           coalesce(array_agg(l.leaf order by l.queue_id), '{}') as leaves
      into v_many
      from (select q.queue_id,
                   string_agg(format(
                       E'%1$s i_slot operator(pg_catalog.=) %2$s then\n'
                       'if i_plain then\n'
                       'insert into pgq.event_%3$s_%2$s (ev_time, ev_txid, ev_type, ev_data)\n'
                       'select pg_catalog.now(), pg_catalog.txid_current(), pg_catalog.unnest(i_types), pg_catalog.unnest(i_datas);\n'
                       'else\n'
                       'insert into pgq.event_%3$s_%2$s %4$s\n'
                       'select pg_catalog.now(), pg_catalog.txid_current(), pg_catalog.unnest(i_types), pg_catalog.unnest(i_datas),'
                       ' pg_catalog.unnest(i_extra1), pg_catalog.unnest(i_extra2), pg_catalog.unnest(i_extra3), pg_catalog.unnest(i_extra4);\n'
                       'end if;\nreturn true;\n',
                       case when n.n = 0 then 'if' else 'elsif' end, n.n, q.queue_id, replace(c_columns, 'ev_id, ', '')), '' order by n.n)
                   || E'end if;\n' as leaf
              from pgq.queue q
             cross join lateral generate_series(0, q.queue_ntables - 1) n (n)
             where i_queue_id is null or q.queue_id & (c_parts - 1) = v_id
             group by q.queue_id) l;

    for v_family in
        select f.*
          from (values
            ('insert_event', 'bigint', 'i_hash', v_one.keys, v_one.leaves,
             'i_hash integer, i_queue_name text, i_type text, i_data text,'
             ' i_extra1 text, i_extra2 text, i_extra3 text, i_extra4 text',
             'i_hash, i_queue_name, i_type, i_data, i_extra1, i_extra2, i_extra3, i_extra4',
             E'    v_slot pg_catalog.text;\n', '', '', 'null'),
            ('capture_event', 'bigint', 'i_hash', v_one.keys,
             array(select regexp_replace(l.leaf, 'return pg_catalog[.]currval[^;]*', 'return 0', 'g')
                     from unnest(v_one.leaves) with ordinality l (leaf, n) order by l.n),
             'i_hash integer, i_queue_name text, i_type text, i_data text,'
             ' i_extra1 text, i_extra2 text, i_extra3 text, i_extra4 text',
             'i_hash, i_queue_name, i_type, i_data, i_extra1, i_extra2, i_extra3, i_extra4',
             E'    v_slot pg_catalog.text;\n',
             E'for v_try in 1 .. 2 loop\n',
             E'exit when v_try operator(pg_catalog.=) 2 or not pgq._open_slot(i_queue_name);\nend loop;\n',
             'pgq.insert_event(i_queue_name, i_type, i_data, i_extra1, i_extra2, i_extra3, i_extra4)'),
            ('insert_events', 'boolean', 'i_queue_id', v_many.keys, v_many.leaves,
             'i_queue_id integer, i_slot integer, i_plain boolean, i_types text[], i_datas text[],'
             ' i_extra1 text[], i_extra2 text[], i_extra3 text[], i_extra4 text[]',
             'i_queue_id, i_slot, i_plain, i_types, i_datas, i_extra1, i_extra2, i_extra3, i_extra4',
             '', '', '', 'null')
          ) f (name, result, key, keys, leaves, parameters, call, variables, before, after, otherwise)
    loop
        func_name := v_family.name;
        arguments := v_family.parameters;
        result := v_family.result;
        if i_queue_id is null then
            body := E'\n-- Written by skyd from pgq.queue, see pgq._inserter_parts.\ndeclare\n' || v_family.variables || E'begin\n';
            if cardinality(v_family.keys) <= 32 then
                body := body || v_family.before || pgq._inserter_tree(v_family.key, v_family.keys, v_family.leaves) || v_family.after
                        || format(E'return %s;\nend;\n', v_family.otherwise);
                return next;
                continue;
            end if;
            body := body
                || pgq._inserter_tree('(' || v_family.key || ' operator(pg_catalog.&) ' || c_parts - 1 || ')',
                       (select array_agg(p order by p) from generate_series(0, c_parts - 1) p),
                       (select array_agg(format(E'return skyd_gen.%s_%s(%s);\n', v_family.name, p, v_family.call) order by p)
                          from generate_series(0, c_parts - 1) p))
                || format(E'return %s;\nend;\n', v_family.otherwise);
            return next;
        end if;
        for i in 0 .. c_parts - 1 loop
            continue when i <> case v_family.key when 'i_hash' then v_hash else v_id end;
            select coalesce(array_agg(a.key order by a.n), '{}'), coalesce(array_agg(v_family.leaves[a.n] order by a.n), '{}')
              into v_hashes, v_part
              from unnest(v_family.keys) with ordinality a (key, n)
             where a.key & (c_parts - 1) = i;
            func_name := v_family.name || '_' || i;
            body := E'\n-- Written by skyd from pgq.queue, see pgq._inserter_parts.\ndeclare\n' || v_family.variables || E'begin\n'
                || v_family.before || pgq._inserter_tree(v_family.key, v_hashes, v_part) || v_family.after || format(E'return %s;\nend;\n', v_family.otherwise);
            return next;
        end loop;
    end loop;
end;
$$ language plpgsql stable set search_path = pg_catalog, pgq, pg_temp;
