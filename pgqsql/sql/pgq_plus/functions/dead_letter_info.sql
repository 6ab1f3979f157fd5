create or replace function pgq.dead_letter_info(
    i_queue_name text, i_consumer_name text,
    out queue_name text, out consumer_name text, out dead_events bigint, out oldest timestamptz, out newest timestamptz)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.dead_letter_info(2)
    --
    --     How many dead letters there are, by queue and consumer, and since
    --     when.
    --
    --     Security definer: the table itself is for administration.
    --
    -- Parameters:
    --     i_queue_name    - queue name, null: all
    --     i_consumer_name - consumer name, null: all
    --
    -- Returns:
    --     a row for each consumer that has dead letters, also when it is not
    --     registered any more
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.dead_letter, pgq.queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query
        select q.queue_name, d.dead_consumer, count(*), min(d.dead_time), max(d.dead_time)
          from pgq.dead_letter d
          join pgq.queue q on q.queue_id = d.dead_queue
         where (q.queue_name = i_queue_name or i_queue_name is null)
           and (d.dead_consumer = i_consumer_name or i_consumer_name is null)
         group by q.queue_name, d.dead_consumer
         order by 1, 2;
end;
$$ language plpgsql stable security definer set search_path = pg_catalog, pgq, pg_temp;
