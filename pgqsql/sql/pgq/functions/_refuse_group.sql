create or replace function pgq._refuse_group(i_queue_id integer, i_consumer_name text, i_sub_id integer)
returns void as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._refuse_group(3)
    --
    --     Raises when a consumer is the main one of a cooperative group: its
    --     batches go to the members. Also while nothing waits, so that a wrong
    --     name is noticed before there are events.
    --
    --     Called under a pinned search path only.
    --
    -- Parameters:
    --     i_queue_id      - queue
    --     i_consumer_name - name of the consumer
    --     i_sub_id        - its number, which members share
    --
    -- Returns:
    --     nothing
    --
    -- Raises:
    --     the consumer is a cooperative group
    --
    -- Calls:
    --     pgq._subscription(2)
    --
    -- Tables:
    --     read - pgq.consumer, pgq.subscription
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    if exists (select 1
                 from pgq.consumer c
                cross join lateral pgq._subscription(i_queue_id, c.co_id) m
                where c.co_name ~>=~ (i_consumer_name || '.') and c.co_name ~<~ (i_consumer_name || '/')
                  and m.sub_id = i_sub_id) then
        raise exception 'consumer % on queue % is a cooperative group', i_consumer_name,
                (select q.queue_name from pgq.queue q where q.queue_id = i_queue_id)
            using errcode = 'object_in_use', hint = 'Its batches go to its members: pgq_coop.next_batch.';
    end if;
end;
$$ language plpgsql volatile;
