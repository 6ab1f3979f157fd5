create or replace function pgq._refuse_insert()
returns trigger as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._refuse_insert(0)
    --
    --     Trigger on the event tables of a queue that pgq.close_queue closed;
    --     its argument is the queue name.
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
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    if current_setting('skyd.copies_batch', true) = tg_argv[0] then
        return new;
    end if;
    raise exception 'writing to queue disabled: %', tg_argv[0]
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'The queue is closed, for example because another node became root. Find out where it is open.';
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
