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
    --     pgq_coop._find_batch(1)
    --
    -- Tables:
    --     update - pgq.subscription
    --
    -- Locks:
    --     the member's subscription row
    -- ----------------------------------------------------------------
declare
    v_row tid;
begin
    loop
        v_row := pgq_coop._find_batch(i_batch_id);
        if v_row is null then
            return 0;
        end if;
        update pgq.subscription s set sub_active = now() where s.ctid = v_row and s.sub_batch = i_batch_id;
        if found then
            return 1;
        end if;
        -- another session changed the row: look where it is now, and whether the batch is still open
    end loop;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_coop, pg_temp;
