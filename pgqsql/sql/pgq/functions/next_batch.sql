create or replace function pgq.next_batch(i_queue_name text, i_consumer_name text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.next_batch(2)
    --
    --     Opens the consumer's next batch of events, from its last tick to the
    --     next one. Until it is finished every call gives the same batch.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - consumer name
    --
    -- Returns:
    --     batch id, or null when there is no new tick yet
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
    return (select b.batch_id
              from pgq.next_batch_custom(i_queue_name, i_consumer_name, null, null, null) b);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
