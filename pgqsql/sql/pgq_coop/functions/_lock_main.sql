create or replace function pgq_coop._lock_main(i_queue_name text, i_consumer_name text)
returns pgq.subscription as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop._lock_main(2)
    --
    --     Locks the subscription of the main consumer. Everything that changes
    --     a cooperative group takes this lock first, so the members of a group
    --     take turns.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - name of the main consumer
    --
    -- Returns:
    --     the row; all null when the consumer is not registered on the queue
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq_coop._lock_row(2)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer, pgq.subscription
    --
    -- Locks:
    --     the main consumer's subscription row, until the transaction ends
    -- ----------------------------------------------------------------
declare
    v_row  tid;
    v_main pgq.subscription%rowtype;
begin
    select pgq_coop._lock_row(q.queue_id, c.co_id) into v_row
      from pgq.queue q
     cross join pgq.consumer c
     where q.queue_name = i_queue_name
       and c.co_name = i_consumer_name;
    -- in a statement of its own, which sees what the lock waited for
    select s.* into v_main from pgq.subscription s where s.ctid = v_row;
    return v_main;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_coop, pg_temp;
