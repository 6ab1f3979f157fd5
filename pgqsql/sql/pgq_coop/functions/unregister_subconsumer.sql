create or replace function pgq_coop.unregister_subconsumer(i_queue_name text, i_consumer_name text, i_subconsumer_name text, i_batch_handling integer)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop.unregister_subconsumer(4)
    --
    --     Removes a member from its group. The retry events of the group stay.
    --
    --     Security definer: consumers have no right to write the
    --     subscriptions.
    --
    -- Parameters:
    --     i_queue_name       - queue name
    --     i_consumer_name    - name of the main consumer
    --     i_subconsumer_name - name of the subconsumer in its group
    --     i_batch_handling   - 1: drop the member's open batch, the group will
    --                          not see its events; anything else: refuse while
    --                          a batch is open
    --
    -- Returns:
    --     1 - removed
    --     0 - there was no such member
    --
    -- Raises:
    --     the member has an open batch and i_batch_handling is not 1
    --
    -- Calls:
    --     pgq.unregister_consumer(2), pgq_coop._lock_main(2)
    --
    -- Tables:
    --     read   - pgq.subscription, pgq.consumer
    --
    -- Locks:
    --     the main consumer's subscription row; waits for other members
    -- ----------------------------------------------------------------
declare
    v_main  pgq.subscription%rowtype := pgq_coop._lock_main(i_queue_name, i_consumer_name);
    v_name  text := i_consumer_name || '.' || i_subconsumer_name;
    v_batch bigint;
begin
    select s.sub_batch into v_batch
      from pgq.subscription s
      join pgq.consumer c on c.co_id = s.sub_consumer
     where s.sub_queue = v_main.sub_queue
       and s.sub_id = v_main.sub_id
       and c.co_name = v_name;
    if not found then
        return 0;
    end if;
    if v_batch is not null and i_batch_handling is distinct from 1 then
        raise exception 'subconsumer % of consumer % on queue % has an open batch: %',
                i_subconsumer_name, i_consumer_name, i_queue_name, v_batch
            using errcode = 'object_in_use',
                  hint = 'Finish it, or pass 1 to drop it: the group then skips its events.';
    end if;
    return pgq.unregister_consumer(i_queue_name, v_name);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_coop, pg_temp;
