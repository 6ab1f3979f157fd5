create or replace function pgq.consumer_paused(i_queue_name text, i_consumer_name text)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.consumer_paused(2)
    --
    --     Tells a consumer whether it should rest, because a limit says so.
    --     skyd's own consumers ask before they open a batch; the functions of
    --     PgQ give a batch to whoever asks for one, paused or not.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - consumer name; of a group the main consumer
    --
    -- Returns:
    --     true when it is paused
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer_state
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return exists (
        select 1
          from pgq.queue q
          join pgq.consumer_state t on t.state_queue = q.queue_id
         where q.queue_name = i_queue_name and t.state_consumer = i_consumer_name and t.state = 'paused');
end;
$$ language plpgsql stable set search_path = pg_catalog, pgq, pg_temp;
