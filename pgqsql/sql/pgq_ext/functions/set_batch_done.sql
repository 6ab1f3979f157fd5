create or replace function pgq_ext.set_batch_done(a_consumer text, a_subconsumer text, a_batch_id bigint)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.set_batch_done(3)
    --
    --     Notes that a batch is done, in the transaction that applied it. Only
    --     the last batch is kept.
    --
    --     Two sessions that note the same batch take turns: the second one
    --     waits and answers false.
    --
    --     Security definer: nobody but the owner has rights on the tables.
    --
    -- Parameters:
    --     a_consumer    - consumer name
    --     a_subconsumer - subconsumer name, empty: none
    --     a_batch_id    - batch of the source queue
    --
    -- Returns:
    --     true  - stored now, or an id of 0 or below, which is never stored
    --     false - it was the last one already: it has been applied before
    --
    -- Raises:
    --     an argument is null
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     insert - pgq_ext.completed_batch
    --     update - pgq_ext.completed_batch
    --
    -- Locks:
    --     the consumer's row; waits for another session of the same consumer
    -- ----------------------------------------------------------------
begin
    if a_batch_id <= 0 then
        return true;
    end if;
    insert into pgq_ext.completed_batch as b (consumer_id, subconsumer_id, last_batch_id)
    values (a_consumer, a_subconsumer, a_batch_id)
    on conflict (consumer_id, subconsumer_id) do update
       set last_batch_id = excluded.last_batch_id
     where b.last_batch_id <> excluded.last_batch_id;
    return found;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_ext, pg_temp;

create or replace function pgq_ext.set_batch_done(a_consumer text, a_batch_id bigint)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.set_batch_done(2)
    --
    --     As pgq_ext.set_batch_done(3), without a subconsumer.
    --
    -- Parameters:
    --     a_consumer - consumer name
    --     a_batch_id - batch of the source queue
    --
    -- Returns:
    --     true  - stored now, or an id of 0 or below, which is never stored
    --     false - it was the last one already: it has been applied before
    --
    -- Raises:
    --     an argument is null
    --
    -- Calls:
    --     pgq_ext.set_batch_done(3)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     the consumer's row; waits for another session of the same consumer
    -- ----------------------------------------------------------------
begin
    return pgq_ext.set_batch_done(a_consumer, '', a_batch_id);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_ext, pg_temp;
