create or replace function pgq.finish_batch(x_batch_id bigint)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.finish_batch(1)
    --
    --     Closes a batch: the consumer's position moves to its end tick. The
    --     batch of a subconsumer leaves no position behind, it would hold back
    --     rotation.
    --
    --     Security definer: consumers have no right to write the subscription.
    --
    -- Parameters:
    --     x_batch_id - batch
    --
    -- Returns:
    --     1 - closed
    --     0 - not open, with a warning: somebody else closed or took it, what
    --         was done for it may be done again
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq._find_batch(1), pgq._is_group_member(2)
    --
    -- Tables:
    --     update - pgq.subscription
    --
    -- Locks:
    --     the subscription row
    -- ----------------------------------------------------------------
declare
    v_sub record;
begin
    loop
        select f.* into v_sub from pgq._find_batch(x_batch_id) f;
        if v_sub.row_id is null then
            raise warning 'finish_batch: batch % is not open', coalesce(x_batch_id::text, '<null>');
            return 0;
        end if;
        update pgq.subscription s
           set sub_active = now(),
               sub_last_tick = case when pgq._is_group_member(s.sub_queue, s.sub_consumer)
                                    then null else s.sub_next_tick end,
               sub_next_tick = null,
               sub_batch = null
         where s.ctid = v_sub.row_id
           and s.sub_batch = x_batch_id;
        if found then
            return 1;
        end if;
        -- another session changed the row: look where it is now, and whether the batch is still open
    end loop;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
