create or replace function pgq.tune_storage(i_queue_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.tune_storage(1)
    --
    --     Sets the storage options of a queue's data tables. They are only
    --     filled and truncated, never updated: full pages, no autovacuum.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     1 - done
    --     0 - queue not found
    --     null for null
    --
    -- Raises:
    --     caller does not own the tables
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue
    --
    -- Locks:
    --     share update exclusive on the data tables
    -- ----------------------------------------------------------------
declare
    v_id     integer;
    v_tables integer;
begin
    select q.queue_id, q.queue_ntables into v_id, v_tables
      from pgq.queue q
     where q.queue_name = i_queue_name;
    if not found then
        return 0;
    end if;
    for i in 0 .. v_tables - 1 loop
        execute format('alter table pgq.event_%s_%s set (fillfactor = 100, autovacuum_enabled = off,'
                       ' toast.autovacuum_enabled = off)', v_id, i);
    end loop;
    return 1;
end;
$$ language plpgsql volatile strict set search_path = pg_catalog, pgq, pg_temp;
