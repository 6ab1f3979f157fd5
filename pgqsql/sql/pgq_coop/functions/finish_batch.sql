create or replace function pgq_coop.finish_batch(i_batch_id bigint)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop.finish_batch(1)
    --
    --     Closes the batch of a member. The member keeps no position, which
    --     would hold back rotation. A batch of a plain consumer is closed as
    --     by pgq.finish_batch.
    --
    --     Security definer: consumers have no right to write the
    --     subscriptions.
    --
    -- Parameters:
    --     i_batch_id - batch of a member
    --
    -- Returns:
    --     1 - closed
    --     0 - not open, with a warning: it was closed or taken over, and what was done for it will be done again
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.finish_batch(1)
    --
    -- Tables:
    --     update - pgq.subscription
    --
    -- Locks:
    --     the member's subscription row
    -- ----------------------------------------------------------------
begin
    update pgq.subscription s
       set sub_active = now(),
           sub_last_tick = null,
           sub_next_tick = null,
           sub_batch = null
     where s.sub_batch = i_batch_id
       and exists (select 1
                     from pgq.subscription o
                    where o.sub_queue = s.sub_queue
                      and o.sub_id = s.sub_id
                      and o.sub_consumer <> s.sub_consumer);
    if found then
        return 1;
    end if;
    return pgq.finish_batch(i_batch_id);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_coop, pg_temp;
