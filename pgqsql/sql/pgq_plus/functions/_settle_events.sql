create or replace function pgq._settle_events(
    i_batch_id bigint, i_event_ids bigint[], i_reasons text[], i_dead boolean, i_delay interval,
    out queued integer, out dead integer)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._settle_events(5)
    --
    --     Puts events of an open batch where they belong: into the retry queue
    --     or among the dead letters. One statement reads the batch once and
    --     writes both.
    --
    --     The subscription row is locked first: whoever takes the batch over
    --     waits until this transaction ends, and a batch that was taken over
    --     is not found here. So an event is not given up by one member of a
    --     group while another works on it.
    --
    -- Parameters:
    --     i_batch_id  - open batch
    --     i_event_ids - events of that batch
    --     i_reasons   - one for each event, one for all, or null
    --     i_dead      - all of them become dead letters
    --     i_delay     - until redelivery; null: as the queue's policy says
    --
    -- Returns:
    --     queued - how many wait for redelivery now
    --     dead   - how many became dead letters
    --
    -- Raises:
    --     batch not open; an event is not in the batch; null ids; wrong number
    --     of reasons
    --
    -- Calls:
    --     pgq._retry_policy(1), pgq.batch_event_sql(1), pgq._main_consumer(2),
    --     pgq.backoff_seconds(5)
    --
    -- Tables:
    --     read   - pgq.subscription, data tables of the queue
    --     insert - pgq.retry_queue, pgq.dead_letter
    --
    -- Locks:
    --     the subscription row of the batch; waits for its finish or takeover
    -- ----------------------------------------------------------------
declare
    v_sub     pgq.subscription%rowtype;
    v_policy  record;
    v_reasons jsonb;
    v_reason  text;
    v_found   integer;
    v_wanted  integer;
begin
    select s.* into v_sub from pgq.subscription s where s.sub_batch = i_batch_id for no key update;
    if not found then
        raise exception 'batch not found: %', coalesce(i_batch_id::text, '<null>')
            using errcode = 'undefined_object',
                  hint = 'It was finished, or another session took it over.';
    end if;
    if i_event_ids is null or array_position(i_event_ids, null) is not null then
        raise exception 'event ids must not be null' using errcode = 'null_value_not_allowed';
    end if;
    if cardinality(i_reasons) <= 1 then
        v_reason := i_reasons[1];
    elsif cardinality(i_reasons) = cardinality(i_event_ids) then
        v_reasons := jsonb_object(i_event_ids::text[], i_reasons);
    elsif i_reasons is not null then
        raise exception '% reasons for % events', cardinality(i_reasons), cardinality(i_event_ids)
            using errcode = 'array_subscript_error';
    end if;

    v_policy := pgq._retry_policy(v_sub.sub_queue);
    execute
        'with ev as materialized ('
        ' select distinct on (e.ev_id) e.*, coalesce($8 ->> e.ev_id::text, $7) as reason,'
        '        $4 or coalesce(e.ev_retry, 0) >= $5 as dead'
        '   from (' || pgq.batch_event_sql(i_batch_id) || ') e'
        '  where e.ev_id = any ($1)'
        '  order by e.ev_id, e.ev_retry desc nulls last'
        '), queued as ('
        ' insert into pgq.retry_queue ('
        '  ev_retry_after, ev_queue, ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data,'
        '  ev_extra1, ev_extra2, ev_extra3, ev_extra4)'
        ' select now() + coalesce($6, make_interval(secs => pgq.backoff_seconds('
        '            $9, $10, $11, $12, coalesce(ev_retry, 0) + 1))),'
        '        $2, ev_id, ev_time, $3, coalesce(ev_retry, 0) + 1, ev_type, ev_data,'
        '        ev_extra1, ev_extra2, ev_extra3, ev_extra4'
        '   from ev where dead is not true'
        ' on conflict (ev_owner, ev_id) do nothing'
        ' returning 1'
        '), dead as ('
        ' insert into pgq.dead_letter as d ('
        '  dead_queue, dead_consumer, dead_reason, ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data,'
        '  ev_extra1, ev_extra2, ev_extra3, ev_extra4)'
        ' select $2, pgq._main_consumer($2, $3),'
        '        coalesce(reason, case when not $4 then ''max_retries reached: '' || $5 end),'
        '        ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data,'
        '        ev_extra1, ev_extra2, ev_extra3, ev_extra4'
        '   from ev'
        '  where dead'
        '    and not exists (select 1 from pgq.retry_queue r where r.ev_owner = $3 and r.ev_id = ev.ev_id)'
        ' on conflict (dead_queue, dead_consumer, ev_id) do update'
        '    set dead_time = now(), dead_reason = excluded.dead_reason, ev_time = excluded.ev_time,'
        '        ev_txid = excluded.ev_txid, ev_retry = excluded.ev_retry, ev_type = excluded.ev_type,'
        '        ev_data = excluded.ev_data, ev_extra1 = excluded.ev_extra1, ev_extra2 = excluded.ev_extra2,'
        '        ev_extra3 = excluded.ev_extra3, ev_extra4 = excluded.ev_extra4'
        ' returning 1'
        ')'
        ' select (select count(*) from ev), (select count(*) from queued), (select count(*) from dead),'
        '        (select count(distinct i) from unnest($1) i)'
       into v_found, queued, dead, v_wanted
      using i_event_ids, v_sub.sub_queue, v_sub.sub_id, i_dead, v_policy.max_retries, i_delay,
            v_reason, v_reasons, v_policy.backoff, v_policy.base, v_policy.cap, v_policy.jitter;
    if v_found < v_wanted then
        raise exception 'event not found: % of % events are not in batch %', v_wanted - v_found, v_wanted, i_batch_id
            using errcode = 'undefined_object';
    end if;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
