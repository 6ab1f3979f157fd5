create or replace function pgq.next_batch_info(
    in i_queue_name text, in i_consumer_name text,
    out batch_id int8, out cur_tick_id int8, out prev_tick_id int8,
    out cur_tick_time timestamptz, out prev_tick_time timestamptz,
    out cur_tick_event_seq int8, out prev_tick_event_seq int8)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.next_batch_info(2)
    --
    --     Opens the consumer's next batch, like pgq.next_batch, and tells its
    --     borders.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - consumer name
    --
    -- Returns:
    --     batch_id, end tick (cur_*) and start tick (prev_*) with time and
    --     event counter; all null when there is no new tick yet
    --
    -- Raises:
    --     as pgq.next_batch_custom(5)
    --
    -- Calls:
    --     pgq.next_batch_custom(5)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.next_batch_custom(5)
    -- ----------------------------------------------------------------
begin
    select b.* into batch_id, cur_tick_id, prev_tick_id, cur_tick_time, prev_tick_time,
                    cur_tick_event_seq, prev_tick_event_seq
      from pgq.next_batch_custom(i_queue_name, i_consumer_name, null, null, null) b;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
