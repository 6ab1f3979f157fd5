create or replace function pgq.dead_letter_purge(i_queue_name text, i_consumer_name text, i_older_than interval)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.dead_letter_purge(3)
    --
    --     Deletes dead letters for good.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - consumer name, null: all of the queue
    --     i_older_than    - only those that died so long ago, null: all
    --
    -- Returns:
    --     number deleted
    --
    -- Raises:
    --     queue not found
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue
    --     delete - pgq.dead_letter
    --
    -- Locks:
    --     the rows it deletes; waits for their redrive
    -- ----------------------------------------------------------------
declare
    v_queue integer;
    v_count integer;
begin
    select q.queue_id into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    if not found then
        raise exception 'queue not found: %', coalesce(i_queue_name, '<null>') using errcode = 'undefined_object';
    end if;
    delete from pgq.dead_letter d
     where d.dead_queue = v_queue
       and (d.dead_consumer = i_consumer_name or i_consumer_name is null)
       and (d.dead_time < now() - i_older_than or i_older_than is null);
    get diagnostics v_count = row_count;
    return v_count;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.dead_letter_purge(i_dead_id bigint)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.dead_letter_purge(1)
    --
    --     Deletes one dead letter for good.
    --
    -- Parameters:
    --     i_dead_id - its number
    --
    -- Returns:
    --     1 - deleted
    --     0 - it does not exist (any more)
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     delete - pgq.dead_letter
    --
    -- Locks:
    --     the row; waits for its redrive
    -- ----------------------------------------------------------------
begin
    delete from pgq.dead_letter d where d.dead_id = i_dead_id;
    return case when found then 1 else 0 end;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
