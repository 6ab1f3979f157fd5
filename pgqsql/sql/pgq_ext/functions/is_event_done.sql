create or replace function pgq_ext.is_event_done(a_consumer text, a_subconsumer text, a_batch_id bigint, a_event_id bigint)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.is_event_done(4)
    --
    --     Tells whether an event is tagged as done.
    --
    --     Security definer: nobody but the owner has rights on the tables.
    --
    -- Parameters:
    --     a_consumer    - consumer name
    --     a_subconsumer - subconsumer name, empty: none
    --     a_batch_id    - batch of the source queue
    --     a_event_id    - event of that batch
    --
    -- Returns:
    --     true or false
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq_ext.completed_event
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return exists (
        select 1
          from pgq_ext.completed_event e
         where e.consumer_id = a_consumer
           and e.subconsumer_id = a_subconsumer
           and e.batch_id = a_batch_id
           and e.event_id = a_event_id);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_ext, pg_temp;

create or replace function pgq_ext.is_event_done(a_consumer text, a_batch_id bigint, a_event_id bigint)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.is_event_done(3)
    --
    --     As pgq_ext.is_event_done(4), without a subconsumer.
    --
    -- Parameters:
    --     a_consumer - consumer name
    --     a_batch_id - batch of the source queue
    --     a_event_id - event of that batch
    --
    -- Returns:
    --     true or false
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq_ext.is_event_done(4)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return pgq_ext.is_event_done(a_consumer, '', a_batch_id, a_event_id);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_ext, pg_temp;
