create or replace function pgq.rewind(i_queue_name text, i_consumer_name text, i_time timestamptz)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.rewind(3)
    --
    --     Moves a consumer to a time: to the last tick that was made by then.
    --     Everything after that tick comes again, or is skipped when the time
    --     lies ahead of the consumer. Its open batch is dropped, its retry
    --     events stay. A tick's time is the start of the transaction that made
    --     it.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - name of a consumer or of a cooperative group
    --     i_time          - time to go to; one after the newest tick means the
    --                       newest tick
    --
    -- Returns:
    --     id of the tick where the consumer stands now
    --
    -- Raises:
    --     the time is null; events of that time are not kept any more: the
    --     message says from when on they are; as pgq.rewind_to_tick(3)
    --
    -- Calls:
    --     pgq.rewind_to_tick(3)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.tick
    --
    -- Locks:
    --     as pgq.rewind_to_tick(3)
    -- ----------------------------------------------------------------
declare
    v_queue integer;
    v_tick  bigint;
begin
    if i_time is null then
        raise exception 'time to go back to is null' using errcode = 'null_value_not_allowed';
    end if;
    -- a rotation deletes old ticks
    select q.queue_id into v_queue from pgq.queue q where q.queue_name = i_queue_name for share;
    select t.tick_id into v_tick
      from pgq.tick t
     where t.tick_queue = v_queue
       and t.tick_id < coalesce((select min(l.tick_id) from pgq.tick l
                                  where l.tick_queue = v_queue and l.tick_time > i_time), 9223372036854775807)
     order by t.tick_id desc
     limit 1;
    if v_tick is null and exists (select 1 from pgq.tick t where t.tick_queue = v_queue) then
        raise exception 'events of queue % are not kept from % on, only from % on', i_queue_name, i_time,
                (select t.tick_time from pgq.tick t where t.tick_queue = v_queue order by t.tick_id limit 1)
            using errcode = 'object_not_in_prerequisite_state',
                  hint = 'Ticks and events stay for at least one rotation_period of the queue.';
    end if;
    return pgq.rewind_to_tick(i_queue_name, i_consumer_name, v_tick);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
