create or replace function pgq._is_group_member(i_queue_id integer, i_consumer_id integer)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._is_group_member(2)
    --
    --     Tells whether a subscription belongs to a member of a cooperative
    --     group: its name is that of another consumer on the queue, a dot and
    --     more, and both share the id of the subscription.
    --
    -- Parameters:
    --     i_queue_id    - queue
    --     i_consumer_id - consumer
    --
    -- Returns:
    --     true for members; false for main consumers and plain ones
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq._subscription(2)
    --
    -- Tables:
    --     read   - pgq.consumer
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_name text;
begin
    select c.co_name into v_name from pgq.consumer c where c.co_id = i_consumer_id;
    if strpos(v_name, '.') = 0 then
        return false;
    end if;
    return exists (
        select 1
          from generate_series(1, length(v_name)) i
          join pgq.consumer main on main.co_name = left(v_name, i - 1)
         cross join lateral pgq._subscription(i_queue_id, main.co_id) s
         where substr(v_name, i, 1) = '.'
           and s.sub_id = (select m.sub_id from pgq._subscription(i_queue_id, i_consumer_id) m));
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
