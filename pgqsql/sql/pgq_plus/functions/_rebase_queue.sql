create or replace function pgq._rebase_queue(i_queue_id integer)
returns void as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._rebase_queue(1)
    --
    --     Gives the ticks and events of one queue ids of this server. Only what
    --     is before and after each tick counts, not the ids: tick number r of n
    --     becomes the snapshot "everything below base + r", an event that tick
    --     r was the first to see gets base + r - 1. base + n is the oldest
    --     running transaction, so no id is given out twice and later events are
    --     above all of them. Events that no tick saw get our own id.
    --
    --     A rotation step lands between the same two ticks; one that was done
    --     here since the restore is set so that nobody is past it.
    --
    -- Parameters:
    --     i_queue_id - queue
    --
    -- Returns:
    --     nothing
    --
    -- Raises:
    --     the queue got ticks since the restore
    --
    -- Calls:
    --     pgq._rebase_events(8)
    --
    -- Tables:
    --     read   - pgq.queue
    --     update - pgq.queue, pgq.tick, event tables
    --
    -- Locks:
    --     exclusive on the event tables
    -- ----------------------------------------------------------------
declare
    v_queue pgq.queue%rowtype;
    v_own   bigint;
    v_next  bigint;     -- what the server has not given out
    v_base  bigint;
    v_ticks integer;
    v_seen  bigint[];   -- upper end of each tick, never falling
    v_open  bigint[];   -- transactions that were open at some tick
    v_first integer[];  -- number of the tick that saw them first
    v_past  integer;    -- ticks that do not lie beyond the last rotation
    v_since bigint;     -- about when the restore was
begin
    select q.* into v_queue from pgq.queue q where q.queue_id = i_queue_id;
    execute format('lock table %s in exclusive mode', v_queue.queue_data_pfx::regclass);
    v_own := txid_current();
    v_next := greatest(v_own, txid_snapshot_xmax(txid_current_snapshot()));

    -- row ids of ticks that came from the dump tell about when that was
    select count(*)::integer,
           coalesce(array_agg(k.seen order by k.rank), '{}'),
           coalesce(max(k.rank) filter (where txid_snapshot_xmin(k.tick_snapshot) <= v_queue.queue_switch_step2), 0)::integer,
           case when bool_or(k.seen > v_next) then min(k.row_id) end
      into v_ticks, v_seen, v_past, v_since
      from (select t.tick_snapshot,
                   row_number() over (order by t.tick_id) as rank,
                   max(txid_snapshot_xmax(t.tick_snapshot)) over (order by t.tick_id) as seen,
                   (v_next - ((v_next - t.xmin::text::bigint) & 4294967295)) as row_id
              from pgq.tick t
             where t.tick_queue = i_queue_id) k;
    if exists (
           select 1
             from pgq.tick t
            where t.tick_queue = i_queue_id and txid_snapshot_xmax(t.tick_snapshot) <= v_next
              and exists (select 1 from pgq.tick o
                           where o.tick_queue = i_queue_id and o.tick_id < t.tick_id
                             and txid_snapshot_xmax(o.tick_snapshot) > v_next)) then
        raise exception 'queue % got ticks since the restore', v_queue.queue_name
            using errcode = 'object_not_in_prerequisite_state',
                  hint = 'Its ticks come from outside. Delete those above the ones of the dump, or drop the queue and subscribe it anew.';
    end if;

    v_base := txid_snapshot_xmin(txid_current_snapshot()) - v_ticks;
    if v_base < 1 then
        -- each failed block uses up one id
        for i in v_base .. 100 loop
            begin
                perform 1 from pgq.queue q where q.queue_id = i_queue_id for update;
                raise exception using errcode = 'PGQR0', message = 'used up';
            exception
                when sqlstate 'PGQR0' then
                    null;
            end;
        end loop;
        return;
    end if;
    if v_base >> 32 <> (v_base + v_ticks) >> 32 then
        -- the ids between two epochs are none
        v_base := (((v_base + v_ticks) >> 32) << 32) - v_ticks - 1;
    end if;

    select coalesce(array_agg(o.txid order by o.txid), '{}'), coalesce(array_agg(o.first order by o.txid), '{}')
      into v_open, v_first
      from (select x.txid, max(k.rank)::integer + 1 as first
              from (select t.tick_snapshot, row_number() over (order by t.tick_id) as rank
                      from pgq.tick t
                     where t.tick_queue = i_queue_id) k
             cross join lateral txid_snapshot_xip(k.tick_snapshot) x (txid)
             group by x.txid) o;
    for i in 0 .. v_queue.queue_ntables - 1 loop
        perform pgq._rebase_events((v_queue.queue_data_pfx || '_' || i)::regclass, v_base, v_own, v_next, v_since,
                                   v_seen, v_open, v_first);
    end loop;
    update pgq.tick t
       set tick_snapshot = format('%s:%s:', v_base + k.rank, v_base + k.rank)::txid_snapshot
      from (select o.tick_id, row_number() over (order by o.tick_id) as rank
              from pgq.tick o
             where o.tick_queue = i_queue_id) k
     where t.tick_queue = i_queue_id and t.tick_id = k.tick_id;
    update pgq.queue q
       set queue_switch_step1 = v_base,
           queue_switch_step2 = case when q.queue_switch_step2 is null then null
                                     when v_since is not null and q.queue_switch_step2 <= v_next then v_base + v_ticks
                                     else v_base + v_past end
     where q.queue_id = i_queue_id;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
