create or replace function pgq.wakeup_channel(i_queue_name text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.wakeup_channel(1)
    --
    --     Name of the notification channel that gets a message, the tick id,
    --     with every tick of a queue. Channel names are limited to 63 bytes,
    --     so longer queue names are hashed.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     'pgq_' and the queue name, or its md5 when that is over 63 bytes;
    --     null for null
    --
    -- Raises:
    --     none
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
    if octet_length(i_queue_name) <= 59 then
        return 'pgq_' || i_queue_name;
    end if;
    return 'pgq_' || md5(i_queue_name);
end;
$$ language plpgsql immutable strict set search_path = pg_catalog, pgq, pg_temp;
