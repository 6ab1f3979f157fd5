create or replace function pgq.maint_dead_letters()
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.maint_dead_letters(0)
    --
    --     Maintenance of dead letters, up to 1000 in a call; call it until it
    --     answers 0. Moves events out of the retry queue that wait there for
    --     more redeliveries than option max_retries of their queue allows:
    --     clients that know only pgq.event_retry put them there. And deletes
    --     dead letters older than option dead_letter_keep.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     number of events moved and deleted
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq._main_consumer(2)
    --
    -- Tables:
    --     read   - pgq.queue_option
    --     delete - pgq.retry_queue, pgq.dead_letter
    --     insert - pgq.dead_letter
    --
    -- Locks:
    --     share update exclusive on pgq.retry_queue when there is something to
    --     move: the mover of the C extension reads a row before it deletes it,
    --     so the two must take turns
    -- ----------------------------------------------------------------
declare
    v_moved  integer := 0;
    v_purged integer;
begin
    if exists (select 1
                 from pgq.queue_option o
                 join pgq.retry_queue r on r.ev_queue = o.queue_id
                where o.option_name = 'max_retries' and r.ev_retry > o.option_value::integer) then
        lock table pgq.retry_queue in share update exclusive mode;
        with gone as (
            delete from pgq.retry_queue r
             using (select w.ev_owner, w.ev_id
                      from pgq.queue_option o
                      join pgq.retry_queue w on w.ev_queue = o.queue_id
                     where o.option_name = 'max_retries' and w.ev_retry > o.option_value::integer
                       and pgq._main_consumer(w.ev_queue, w.ev_owner) is not null
                     limit 1000) k
             where r.ev_owner = k.ev_owner and r.ev_id = k.ev_id
            returning r.*
        )
        insert into pgq.dead_letter as d (
            dead_queue, dead_consumer, dead_reason, ev_id, ev_time, ev_retry, ev_type, ev_data,
            ev_extra1, ev_extra2, ev_extra3, ev_extra4)
        select g.ev_queue, pgq._main_consumer(g.ev_queue, g.ev_owner),
               'max_retries reached: ' || (g.ev_retry - 1), g.ev_id, g.ev_time, g.ev_retry - 1, g.ev_type, g.ev_data,
               g.ev_extra1, g.ev_extra2, g.ev_extra3, g.ev_extra4
          from gone g
        on conflict (dead_queue, dead_consumer, ev_id) do update
           set dead_time = now(), dead_reason = excluded.dead_reason, ev_time = excluded.ev_time,
               ev_txid = excluded.ev_txid, ev_retry = excluded.ev_retry, ev_type = excluded.ev_type,
               ev_data = excluded.ev_data, ev_extra1 = excluded.ev_extra1, ev_extra2 = excluded.ev_extra2,
               ev_extra3 = excluded.ev_extra3, ev_extra4 = excluded.ev_extra4;
        get diagnostics v_moved = row_count;
    end if;

    delete from pgq.dead_letter d
     using (select e.dead_id
              from pgq.queue_option o
              join pgq.dead_letter e on e.dead_queue = o.queue_id
             where o.option_name = 'dead_letter_keep' and e.dead_time < now() - o.option_value::interval
             limit 1000
               for update of e skip locked) k
     where d.dead_id = k.dead_id;
    get diagnostics v_purged = row_count;
    return v_moved + v_purged;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
