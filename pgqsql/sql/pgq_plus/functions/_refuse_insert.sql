create or replace function pgq._refuse_insert()
returns trigger as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._refuse_insert(0)
    --
    --     Trigger on the event tables of a queue that pgq.close_queue closed;
    --     its arguments are the queue name and the transaction that closed it.
    --     A queue that another tool has opened since, by the flag alone, takes
    --     rows of everybody whose snapshot has both the closing and the
    --     opening.
    --
    --     Security definer: it reads pgq.queue for whoever writes.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     the row, for a copy of a batch by the cascade
    --
    -- Raises:
    --     object_not_in_prerequisite_state - writing to queue disabled
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read - pgq.queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    if current_setting('skyd.copies_batch', true) = tg_argv[0] then
        return new;
    end if;
    if tg_nargs > 1 and (
            select txid_visible_in_snapshot(tg_argv[1]::bigint, txid_current_snapshot()) and not q.queue_disable_insert
              from pgq.queue q
             where q.queue_name = tg_argv[0]) then
        return new;
    end if;
    raise exception 'writing to queue disabled: %', tg_argv[0]
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'The queue is closed, for example because another node became root. Find out where it is open.';
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
