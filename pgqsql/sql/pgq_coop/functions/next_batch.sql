create or replace function pgq_coop.next_batch(i_queue_name text, i_consumer_name text, i_subconsumer_name text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop.next_batch(3)
    --
    --     Opens a batch for a member of a cooperative group. Until it is
    --     finished every call gives the same batch and is a sign of life.
    --
    -- Parameters:
    --     i_queue_name       - queue name
    --     i_consumer_name    - name of the main consumer
    --     i_subconsumer_name - name of the subconsumer in its group
    --
    -- Returns:
    --     batch id, or null when there is nothing
    --
    -- Raises:
    --     queue not found; the main consumer has an open batch of its own; its
    --     position tick is gone
    --
    -- Calls:
    --     pgq_coop.next_batch_custom(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq_coop.next_batch_custom(7)
    -- ----------------------------------------------------------------
begin
    return pgq_coop.next_batch_custom(i_queue_name, i_consumer_name, i_subconsumer_name, null, null, null, null);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_coop, pg_temp;

create or replace function pgq_coop.next_batch(i_queue_name text, i_consumer_name text, i_subconsumer_name text, i_dead_interval interval)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop.next_batch(4)
    --
    --     As pgq_coop.next_batch(3), and takes over the batch of a member that
    --     is dead.
    --
    -- Parameters:
    --     i_queue_name       - queue name
    --     i_consumer_name    - name of the main consumer
    --     i_subconsumer_name - name of the subconsumer in its group
    --     i_dead_interval    - members silent for longer lose their batch;
    --                          null: none do
    --
    -- Returns:
    --     batch id, or null when there is nothing
    --
    -- Raises:
    --     queue not found; the main consumer has an open batch of its own; its
    --     position tick is gone
    --
    -- Calls:
    --     pgq_coop.next_batch_custom(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq_coop.next_batch_custom(7)
    -- ----------------------------------------------------------------
begin
    return pgq_coop.next_batch_custom(i_queue_name, i_consumer_name, i_subconsumer_name, null, null, null, i_dead_interval);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_coop, pg_temp;
