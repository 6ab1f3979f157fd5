create or replace function pgq_coop._is_member(i_queue_id integer, i_consumer_id integer, i_sub_id integer)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop._is_member(3)
    --
    --     Tells whether a subscription belongs to a member of a cooperative
    --     group: its name is that of another consumer on the queue, a dot and
    --     more, and both share the id of the subscription.
    --
    -- Parameters:
    --     i_queue_id    - queue
    --     i_consumer_id - consumer
    --     i_sub_id      - id of its subscription
    --
    -- Returns:
    --     true for members; false for main consumers and plain ones
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.consumer, pgq.subscription
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_name text;
    v_id   integer;
    v_sub  integer;
begin
    select c.co_name into v_name from pgq.consumer c where c.co_id = i_consumer_id;
    -- no name: unregistered meanwhile
    for i in 1 .. coalesce(length(v_name), 0) loop
        continue when substr(v_name, i, 1) <> '.';
        select c.co_id into v_id from pgq.consumer c where c.co_name = left(v_name, i - 1);
        -- backwards, see pgq_coop._lock_row
        select s.sub_id into v_sub
          from pgq.subscription s
         where (s.sub_queue, s.sub_consumer) >= (i_queue_id, v_id)
           and (s.sub_queue, s.sub_consumer) <= (i_queue_id, v_id)
         order by s.sub_queue desc, s.sub_consumer desc
         limit 1;
        if v_sub = i_sub_id then
            return true;
        end if;
    end loop;
    return false;
end;
$$ language plpgsql volatile
set search_path = pg_catalog, pgq_coop, pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off;
