create or replace function pgq._group_event_sql(i_batch jsonb)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._group_event_sql(1)
    --
    --     Text of the query that gives the events of a batch of an ordered
    --     group: those whose transaction is not visible in the snapshot of the
    --     start tick and visible in the snapshot of the end tick, and whose key
    --     belongs to one of the slots.
    --
    --     Most of them lie in one range of txids. Transactions that were open at
    --     the start tick and have ended since are looked up one by one, unless
    --     they are near. The data table before the current one is read when the
    --     batch may reach below the last rotation.
    --
    -- Parameters:
    --     i_batch - batch of pgq.next_group_batch
    --
    -- Returns:
    --     SELECT of the ten event columns in the order of ev_id
    --
    -- Raises:
    --     batch gone: its slots have another owner or stand elsewhere
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.slot_group, pgq.group_slot, pgq.subscription, pgq.queue, pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_slots integer[] := array(select e.v::integer from jsonb_array_elements_text(i_batch -> 'slots') with ordinality e (v, i) order by e.i);
    v_batch record;
    v_first bigint;     -- start of the range
    v_old   bigint[];   -- transactions below the range
    v_where text;
    v_nr    integer;
    v_parts text[] := '{}';
begin
    select g.key_field, g.slots, q.queue_data_pfx, q.queue_ntables, q.queue_cur_table,
           q.queue_switch_step1, q.queue_switch_step2, s.sub_id,
           prev.tick_snapshot as s1, next.tick_snapshot as s2,
           txid_snapshot_xmin(prev.tick_snapshot) as xmin1,
           txid_snapshot_xmax(prev.tick_snapshot) as xmax1,
           txid_snapshot_xmax(next.tick_snapshot) as xmax2
      into v_batch
      from pgq.slot_group g
      join pgq.queue q on q.queue_id = g.queue_id
      join pgq.subscription s on s.sub_queue = g.queue_id and s.sub_consumer = g.consumer_id
      join pgq.tick prev on prev.tick_queue = g.queue_id and prev.tick_id = (i_batch ->> 'prev')::bigint
      join pgq.tick next on next.tick_queue = g.queue_id and next.tick_id = (i_batch ->> 'next')::bigint
     where g.group_id = (i_batch ->> 'group')::integer
       and cardinality(v_slots) = (
           select count(*)
             from pgq.group_slot o
             join jsonb_array_elements_text(i_batch -> 'slots') with ordinality a (slot, i) on a.slot::integer = o.slot
             join jsonb_array_elements_text(i_batch -> 'epochs') with ordinality e (epoch, i) on e.i = a.i and e.epoch::bigint = o.epoch
            where o.group_id = g.group_id
              and o.worker = i_batch ->> 'worker'
              and o.last_tick = prev.tick_id);
    if not found then
        raise exception 'batch of group is gone: %', coalesce(i_batch::text, '<null>')
            using errcode = 'undefined_object';
    end if;

    select coalesce(min(x) filter (where x >= v_batch.xmax1 - 100), v_batch.xmax1),
           array_agg(x order by x) filter (where x < v_batch.xmax1 - 100)
      into v_first, v_old
      from txid_snapshot_xip(v_batch.s1) x
     where txid_visible_in_snapshot(x, v_batch.s2);

    v_where := format('not pg_catalog.txid_visible_in_snapshot(ev_txid, %L::pg_catalog.txid_snapshot)'
                      ' and pg_catalog.txid_visible_in_snapshot(ev_txid, %L::pg_catalog.txid_snapshot)'
                      ' and (ev_owner is null or ev_owner = %s)',
                      v_batch.s1, v_batch.s2, v_batch.sub_id);
    if cardinality(v_slots) < v_batch.slots then
        -- pgq.key_slot written out: the call of a function for each event costs more than the hash
        v_where := v_where || format(' and ((''x'' || pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to('
                                     'coalesce(%I, ev_id::pg_catalog.text), ''UTF8'')), ''hex''), 8))::pg_catalog.bit(32)::pg_catalog.int8'
                                     ' %% %s)::pg_catalog.int4 = any (%L::pg_catalog.int4[])',
                                     v_batch.key_field, v_batch.slots, v_slots);
    end if;
    foreach v_nr in array array[(v_batch.queue_cur_table - 1 + v_batch.queue_ntables) % v_batch.queue_ntables, v_batch.queue_cur_table] loop
        -- step 2 of the last rotation is above all transactions that wrote to the previous table
        continue when v_nr <> v_batch.queue_cur_table
            and v_batch.queue_switch_step2 is not null and v_batch.xmin1 > v_batch.queue_switch_step2;
        -- and those that wrote to the current one committed after step 1
        continue when v_nr = v_batch.queue_cur_table and cardinality(v_parts) > 0
            and v_batch.xmax2 <= v_batch.queue_switch_step1;
        v_parts := v_parts || format(
            'select ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4'
            ' from %s where ev_txid >= %s and ev_txid < %s and %s',
            v_batch.queue_data_pfx || '_' || v_nr, v_first, v_batch.xmax2, v_where);
        if v_old is not null then
            v_parts := v_parts || format(
                'select ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4'
                ' from %s where ev_txid = any (%L::bigint[]) and %s',
                v_batch.queue_data_pfx || '_' || v_nr, v_old, v_where);
        end if;
    end loop;
    return array_to_string(v_parts, ' union all ') || ' order by 1';
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
