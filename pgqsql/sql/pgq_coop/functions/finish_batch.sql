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
    --     pgq.finish_batch(1), pgq_coop._find_batch(1), pgq_coop._is_member(3)
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
        if v_row is null or not coalesce((
                select pgq_coop._is_member(s.sub_queue, s.sub_consumer, s.sub_id)
                  from pgq.subscription s
                 where s.ctid = v_row and s.sub_batch = i_batch_id), true) then
            return pgq.finish_batch(i_batch_id);
        end if;
        update pgq.subscription s
           set sub_active = now(),
               sub_last_tick = null,
               sub_next_tick = null,
               sub_batch = null
         where s.ctid = v_row
           and s.sub_batch = i_batch_id;
        if found then
            return 1;
        end if;
        -- another session changed the row: look where it is now, and whether the batch is still open
    end loop;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_coop, pg_temp;
