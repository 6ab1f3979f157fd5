create or replace function pgq._is_group_member(i_queue_id integer, i_consumer_id integer)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._is_group_member(2)
    --
    --     Tells whether a subscription belongs to a subconsumer. Members of a
    --     cooperative group share the sub_id of the main consumer and are
    --     named <consumer>.<subconsumer>.
    --
    -- Parameters:
    --     i_queue_id    - queue
    --     i_consumer_id - consumer of the subscription
    --
    -- Returns:
    --     true for a member, false for a plain or a main consumer
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
    return exists (
        select 1
          from pgq.subscription s
          join pgq.consumer c on c.co_id = s.sub_consumer
          join pgq.subscription o on o.sub_queue = s.sub_queue and o.sub_id = s.sub_id
                                 and o.sub_consumer <> s.sub_consumer
          join pgq.consumer main on main.co_id = o.sub_consumer
         where s.sub_queue = i_queue_id
           and s.sub_consumer = i_consumer_id
           and starts_with(c.co_name, main.co_name || '.'));
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
