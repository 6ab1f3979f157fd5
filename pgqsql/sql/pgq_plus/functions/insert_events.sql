create or replace function pgq.insert_events(
    i_queue_name text, i_types text[], i_datas text[],
    i_extra1 text[] default null, i_extra2 text[] default null, i_extra3 text[] default null, i_extra4 text[] default null)
returns bigint[] as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.insert_events(7)
    --
    --     Inserts many events by one statement, at the price of an INSERT of
    --     so many rows. The n-th elements of all arrays make the n-th event;
    --     their creation time is now().
    --
    --     Security definer: producers have no rights on the event tables.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_types      - event types; null instead of an array: null for all
    --     i_datas      - event data, same
    --     i_extra1     - free for the producer, same
    --     i_extra2     - free for the producer, same
    --     i_extra3     - free for the producer, same
    --     i_extra4     - free for the producer, same
    --
    -- Returns:
    --     event ids in the order of the input, ascending; empty for no events
    --
    -- Raises:
    --     arrays of different lengths, or of more than one dimension; queue
    --     not found; queue closed for writing, unless
    --     session_replication_role is replica; queue_per_tx_limit reached;
    --     40001 when a repeatable read transaction is older than the last
    --     change of the queue
    --
    -- Calls:
    --     pgq._open_queue(1), pgq.insert_event(7) for queues with a limit
    --
    -- Tables:
    --     read   - pgq.queue
    --     insert - current data table of the queue
    --
    -- Locks:
    --     as pgq._open_queue(1)
    -- ----------------------------------------------------------------
declare
    v_count integer := coalesce(cardinality(i_types), cardinality(i_datas), cardinality(i_extra1),
                                cardinality(i_extra2), cardinality(i_extra3), cardinality(i_extra4), 0);
    v_plain boolean := i_extra1 is null and i_extra2 is null and i_extra3 is null and i_extra4 is null;
    v_queue record;
    v_seq   regclass;
    v_first bigint;
    v_last  bigint;
    v_done  boolean := false;
    v_ids   bigint[];
begin
    if array_ndims(i_types) > 1 or array_ndims(i_datas) > 1 or array_ndims(i_extra1) > 1
       or array_ndims(i_extra2) > 1 or array_ndims(i_extra3) > 1 or array_ndims(i_extra4) > 1 then
        raise exception 'an array of events has more than one dimension' using errcode = 'array_subscript_error';
    end if;
    if v_count <> cardinality(i_types) or v_count <> cardinality(i_datas) or v_count <> cardinality(i_extra1)
       or v_count <> cardinality(i_extra2) or v_count <> cardinality(i_extra3) or v_count <> cardinality(i_extra4) then
        raise exception 'arrays of events differ in length: types %, datas %, extra1 %, extra2 %, extra3 %, extra4 %',
                coalesce(cardinality(i_types)::text, 'null'), coalesce(cardinality(i_datas)::text, 'null'),
                coalesce(cardinality(i_extra1)::text, 'null'), coalesce(cardinality(i_extra2)::text, 'null'),
                coalesce(cardinality(i_extra3)::text, 'null'), coalesce(cardinality(i_extra4)::text, 'null')
            using errcode = 'array_subscript_error', hint = 'Each array has one element for each event, or is null.';
    end if;
    v_queue := pgq._open_queue(i_queue_name);
    if v_count = 0 then
        return '{}';
    end if;
    if v_queue.tx_limit is not null then
        v_ids := array(
            select pgq.insert_event(i_queue_name, e.ev_type, e.ev_data, e.ev_extra1, e.ev_extra2, e.ev_extra3, e.ev_extra4)
              from rows from (unnest(i_types), unnest(i_datas), unnest(i_extra1), unnest(i_extra2), unnest(i_extra3),
                              unnest(i_extra4)) with ordinality
                   e (ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4, n)
             order by e.n);
        return v_ids;
    end if;

    -- The rows number themselves in the order of the input; that is cheaper
    -- than to bring the ids along.
    v_seq := v_queue.event_seq;
    v_first := coalesce(pg_sequence_last_value(v_seq), 0) + 1;
    -- skyd's own PgQ has code with plans that the server keeps
    if v_queue.generated then
        v_done := skyd_gen.insert_events(v_queue.queue_id, v_queue.slot, v_plain, i_types, i_datas,
                                         i_extra1, i_extra2, i_extra3, i_extra4);
    end if;
    if v_done is not true then
        execute 'insert into ' || v_queue.event_table
                || ' (ev_time, ev_txid, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)'
                   ' select pg_catalog.now(), pg_catalog.txid_current(), e.ev_type, e.ev_data,'
                   ' e.ev_extra1, e.ev_extra2, e.ev_extra3, e.ev_extra4'
                   ' from unnest($1, $2, $3, $4, $5, $6)'
                   ' e (ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)'
        using i_types, i_datas, i_extra1, i_extra2, i_extra3, i_extra4;
    end if;
    v_last := currval(v_seq);
    if v_last - v_first + 1 = v_count then
        return array(select generate_series(v_first, v_last));
    end if;
    -- others took numbers in between
    execute 'select array(select e.ev_id from ' || v_queue.event_table
            || ' e where e.ev_txid = pg_catalog.txid_current() and e.ev_id between $1 and $2 order by e.ev_id)'
       into v_ids using v_first, v_last;
    return v_ids;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.insert_events(i_queue_name text, i_events jsonb)
returns bigint[] as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.insert_events(2)
    --
    --     Inserts many events given as one JSON array of objects with the keys
    --     type, data, extra1, extra2, extra3 and extra4. A key that is left
    --     out or null gives null; text is taken as it is, any other value as
    --     its JSON text.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_events     - JSON array of objects
    --
    -- Returns:
    --     event ids in the order of the input
    --
    -- Raises:
    --     i_events is no array of objects, or has other keys; otherwise as
    --     pgq.insert_events(7)
    --
    -- Calls:
    --     pgq.insert_events(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.insert_events(7)
    -- ----------------------------------------------------------------
declare
    v_key  text;
    v_cols record;
begin
    if jsonb_typeof(i_events) is distinct from 'array' or jsonb_path_exists(i_events, 'strict $[*] ? (@.type() != "object")') then
        raise exception 'events must be a JSON array of objects' using errcode = 'invalid_parameter_value';
    end if;
    select k.key into v_key
      from jsonb_array_elements(i_events) e
     cross join lateral jsonb_object_keys(e.value) k (key)
     where k.key not in ('type', 'data', 'extra1', 'extra2', 'extra3', 'extra4')
     limit 1;
    if found then
        raise exception 'unknown key of an event: %', v_key
            using errcode = 'invalid_parameter_value', hint = 'Keys: type, data, extra1, extra2, extra3, extra4.';
    end if;
    select array_agg(e.value ->> 'type' order by e.n) as types, array_agg(e.value ->> 'data' order by e.n) as datas,
           array_agg(e.value ->> 'extra1' order by e.n) as extra1, array_agg(e.value ->> 'extra2' order by e.n) as extra2,
           array_agg(e.value ->> 'extra3' order by e.n) as extra3, array_agg(e.value ->> 'extra4' order by e.n) as extra4
      into v_cols
      from jsonb_array_elements(i_events) with ordinality e (value, n);
    return pgq.insert_events(i_queue_name, v_cols.types, v_cols.datas,
                             v_cols.extra1, v_cols.extra2, v_cols.extra3, v_cols.extra4);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
