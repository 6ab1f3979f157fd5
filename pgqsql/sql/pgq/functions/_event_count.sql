create or replace function pgq._event_count(i_queue_event_seq text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._event_count(1)
    --
    --     Event counter of a queue: how many ids its sequence has given out.
    --     Unlike last_value it is 0 before the first event, so that the first
    --     event of a new queue moves it.
    --
    -- Parameters:
    --     i_queue_event_seq - pgq.queue.queue_event_seq
    --
    -- Returns:
    --     counter, 0 before the first event
    --
    -- Raises:
    --     sequence does not exist
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - the sequence
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return coalesce(pg_catalog.pg_sequence_last_value(i_queue_event_seq::regclass), 0);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
