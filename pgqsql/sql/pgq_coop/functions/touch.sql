create or replace function pgq_coop.touch(i_batch_id bigint)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop.touch(1)
    --
    --     Sign of life of a member that works on a batch for long. Without one
    --     the batch is taken over after the dead interval of the others.
    --
    --     Security definer: consumers have no right to write the
    --     subscriptions.
    --
    -- Parameters:
    --     i_batch_id - batch of a member
    --
    -- Returns:
    --     1 - noted
    --     0 - not open any more: stop working on it
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     update - pgq.subscription
    --
    -- Locks:
    --     the member's subscription row
    -- ----------------------------------------------------------------
begin
    update pgq.subscription s set sub_active = now() where s.sub_batch = i_batch_id;
    return case when found then 1 else 0 end;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_coop, pg_temp;
