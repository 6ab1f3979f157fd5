create or replace function pgq.create_queue(i_queue_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.create_queue(1)
    --
    --     Creates a queue: its row, two sequences, the data tables and the
    --     first tick. Consumers see events committed after that tick, those of
    --     this very transaction too.
    --
    --     Security definer: an admin may create tables in schema pgq only
    --     through this function.
    --
    -- Parameters:
    --     i_queue_name - any text but null
    --
    -- Returns:
    --     1 - created
    --     0 - existed already
    --
    -- Raises:
    --     queue name is null
    --
    -- Calls:
    --     pgq.tune_storage(1), pgq.grant_perms(1), pgq._make_inserter(2),
    --     pgq._tick_snapshot(0)
    --
    -- Tables:
    --     insert - pgq.queue, pgq.tick
    --
    -- Locks:
    --     waits for another session that creates the same queue
    -- ----------------------------------------------------------------
declare
    v_id     integer;
    v_pfx    text;
    v_table  text;
    v_tables integer;
begin
    if i_queue_name is null then
        raise exception 'queue name is null' using errcode = 'null_value_not_allowed';
    end if;
    -- an existing queue must not cost a queue id
    perform 1 from pgq.queue q where q.queue_name = i_queue_name;
    if found then
        return 0;
    end if;
    v_id := nextval('pgq.queue_queue_id_seq');
    v_pfx := 'pgq.event_' || v_id;
    insert into pgq.queue (queue_id, queue_name, queue_data_pfx, queue_event_seq, queue_tick_seq)
    values (v_id, i_queue_name, v_pfx, v_pfx || '_id_seq', v_pfx || '_tick_seq')
    on conflict (queue_name) do nothing
    returning queue_ntables into v_tables;
    if not found then
        return 0;
    end if;

    execute format('create sequence pgq.event_%s_id_seq', v_id);
    execute format('create sequence pgq.event_%s_tick_seq', v_id);
    execute format('create table %s () inherits (pgq.event_template)', v_pfx);
    for i in 0 .. v_tables - 1 loop
        v_table := v_pfx || '_' || i;
        execute format('create table %s () inherits (%s)', v_table, v_pfx);
        execute format('alter table %s alter column ev_id set default nextval(%L)', v_table, v_pfx || '_id_seq');
        execute format('create index event_%s_%s_txid_idx on %s (ev_txid)', v_id, i, v_table);
    end loop;
    perform pgq.tune_storage(i_queue_name);
    perform pgq.grant_perms(i_queue_name);
    perform pgq._make_inserter(v_id, i_queue_name);

    insert into pgq.tick (tick_queue, tick_id, tick_snapshot, tick_event_seq)
    values (v_id, nextval((v_pfx || '_tick_seq')::regclass), pgq._tick_snapshot(), 0);
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
