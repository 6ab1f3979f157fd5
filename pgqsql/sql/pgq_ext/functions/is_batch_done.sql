create or replace function pgq_ext.is_batch_done(a_consumer text, a_subconsumer text, a_batch_id bigint)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.is_batch_done(3)
    --
    --     Tells whether a batch is the last one that this consumer has done
    --     here.
    --
    --     Security definer: nobody but the owner has rights on the tables.
    --
    -- Parameters:
    --     a_consumer    - consumer name
    --     a_subconsumer - subconsumer name, empty: none
    --     a_batch_id    - batch of the source queue
    --
    -- Returns:
    --     true when it is; false for another one, or when none is stored
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq_ext.completed_batch
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return exists (
        select 1
          from pgq_ext.completed_batch b
         where b.consumer_id = a_consumer
           and b.subconsumer_id = a_subconsumer
           and b.last_batch_id = a_batch_id);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_ext, pg_temp;

create or replace function pgq_ext.is_batch_done(a_consumer text, a_batch_id bigint)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.is_batch_done(2)
    --
    --     As pgq_ext.is_batch_done(3), without a subconsumer.
    --
    -- Parameters:
    --     a_consumer - consumer name
    --     a_batch_id - batch of the source queue
    --
    -- Returns:
    --     true when it is; false for another one, or when none is stored
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq_ext.is_batch_done(3)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return pgq_ext.is_batch_done(a_consumer, '', a_batch_id);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_ext, pg_temp;
