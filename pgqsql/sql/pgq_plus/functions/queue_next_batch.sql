create or replace function pgq.queue_next_batch(
    i_queue_name text, i_consumer_name text, i_caller text default pgq.caller_proof(),
    out batch_id bigint, out cur_tick_id bigint, out prev_tick_id bigint,
    out cur_tick_time timestamptz, out prev_tick_time timestamptz,
    out cur_tick_event_seq bigint, out prev_tick_event_seq bigint)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.queue_next_batch(3)
    --
    --     pgq.next_batch_info(2) for the role to which the consumer belongs.
    --
    --     Security definer: a right on one queue is no right on the functions and
    --     tables of all.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - consumer name
    --     i_caller        - leave it out: proof of who calls
    --
    -- Returns:
    --     as pgq.next_batch_info(2): batch_id, end tick (cur_*) and start tick
    --     (prev_*); all null when there is no batch yet
    --
    -- Raises:
    --     insufficient_privilege - no right read on the queue, or the consumer
    --     is not the caller's
    --     otherwise as pgq.next_batch_info(2)
    --
    -- Calls:
    --     pgq._queue_consumer_caller(3), pgq.next_batch_info(2)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.next_batch_info(2)
    -- ----------------------------------------------------------------
begin
    perform pgq._queue_consumer_caller(i_queue_name, i_consumer_name, i_caller);
    select b.batch_id, b.cur_tick_id, b.prev_tick_id, b.cur_tick_time, b.prev_tick_time,
           b.cur_tick_event_seq, b.prev_tick_event_seq
      into batch_id, cur_tick_id, prev_tick_id, cur_tick_time, prev_tick_time,
           cur_tick_event_seq, prev_tick_event_seq
      from pgq.next_batch_info(i_queue_name, i_consumer_name) b;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
