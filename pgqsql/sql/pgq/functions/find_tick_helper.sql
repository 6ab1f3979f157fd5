create or replace function pgq.find_tick_helper(
    in i_queue_id int4, in i_prev_tick_id int8, in i_prev_tick_time timestamptz, in i_prev_tick_seq int8,
    in i_min_count int8, in i_min_interval interval,
    out next_tick_id int8, out next_tick_time timestamptz, out next_tick_seq int8)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.find_tick_helper(6)
    --
    --     Chooses the end tick of a batch that shall reach a size. The newest
    --     tick qualifies when count or interval is reached. When it is more
    --     than twice beyond a given wish, the first tick that reaches either
    --     wish is taken instead.
    --
    -- Parameters:
    --     i_queue_id       - queue
    --     i_prev_tick_id   - start tick of the batch
    --     i_prev_tick_time - its time
    --     i_prev_tick_seq  - its event counter
    --     i_min_count      - counter difference wanted, null: no wish
    --     i_min_interval   - time difference wanted, null: no wish
    --
    -- Returns:
    --     next_tick_id, next_tick_time, next_tick_seq of the end tick; all
    --     null when no tick reaches a wish
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_newest pgq.tick%rowtype;
    v_count  bigint;
    v_time   interval;
begin
    select t.* into v_newest
      from pgq.tick t
     where t.tick_queue = i_queue_id
       and t.tick_id > i_prev_tick_id
     order by t.tick_id desc
     limit 1;
    if not found then
        return;
    end if;
    v_count := v_newest.tick_event_seq - i_prev_tick_seq;
    v_time := v_newest.tick_time - i_prev_tick_time;
    if not (coalesce(v_count >= i_min_count, false) or coalesce(v_time >= i_min_interval, false)) then
        return;
    end if;
    if v_count > 2 * i_min_count or v_time > 2 * i_min_interval then
        select t.* into v_newest
          from pgq.tick t
         where t.tick_queue = i_queue_id
           and t.tick_id > i_prev_tick_id
           and (t.tick_event_seq - i_prev_tick_seq >= i_min_count
                or t.tick_time - i_prev_tick_time >= i_min_interval)
         order by t.tick_id
         limit 1;
    end if;
    next_tick_id := v_newest.tick_id;
    next_tick_time := v_newest.tick_time;
    next_tick_seq := v_newest.tick_event_seq;
end;
$$ language plpgsql stable
set search_path = pg_catalog, pgq, pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off;
