create or replace function pgq._main_consumer(i_queue integer, i_sub_id integer)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._main_consumer(2)
    --
    --     Name of the consumer an owner id of retry events stands for. The
    --     members of a cooperative group share it; their names are longer than
    --     that of the main consumer, which they begin with.
    --
    -- Parameters:
    --     i_queue  - queue id
    --     i_sub_id - owner id
    --
    -- Returns:
    --     consumer name, or null when it is not registered
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.subscription, pgq.consumer
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return (select c.co_name
              from pgq.subscription s
              join pgq.consumer c on c.co_id = s.sub_consumer
             where s.sub_queue = i_queue and s.sub_id = i_sub_id
             order by length(c.co_name)
             limit 1);
end;
$$ language plpgsql stable set search_path = pg_catalog, pgq, pg_temp;
