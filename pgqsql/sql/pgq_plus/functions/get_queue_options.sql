create or replace function pgq.get_queue_options(i_queue_name text)
returns jsonb as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_queue_options(1)
    --
    --     All options of a queue with the values that hold, in the form that
    --     pgq.set_queue_options(2) takes.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     JSON object; null for a queue that is not there
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.queue_option_kinds(0), pgq._queue_option(2)
    --
    -- Tables:
    --     read - pgq.queue, pgq.queue_option
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return (
        select jsonb_object_agg(k.option_name, case when k.of_queue then to_jsonb(q) -> ('queue_' || k.option_name)
                                    when k.value_type in ('integer', 'float8') then to_jsonb(o.value::numeric)
                                    when k.value_type = 'boolean' then to_jsonb(o.value::boolean)
                                    else to_jsonb(o.value) end)
          from pgq.queue q
         cross join pgq.queue_option_kinds() k
         cross join lateral (select case when not k.of_queue then pgq._queue_option(q.queue_id, k.option_name) end as value) o
         where q.queue_name = i_queue_name);
end;
$$ language plpgsql stable set search_path = pg_catalog, pgq, pg_temp;
