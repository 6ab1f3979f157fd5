create or replace function pgq_ext.set_event_done(a_consumer text, a_subconsumer text, a_batch_id bigint, a_event_id bigint)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.set_event_done(4)
    --
    --     Tags an event as done, in the transaction that applied it. The first
    --     event of another batch deletes the tags of the batch before.
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
    --     true  - tagged now
    --     false - was tagged: it has been applied before
    --
    -- Raises:
    --     an argument is null
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     insert - pgq_ext.partial_batch, pgq_ext.completed_event
    --     update - pgq_ext.partial_batch
    --     delete - pgq_ext.completed_event
    --
    -- Locks:
    --     the consumer's row; waits for another session of the same consumer
    -- ----------------------------------------------------------------
declare
    v_batch bigint;
begin
    insert into pgq_ext.partial_batch (consumer_id, subconsumer_id, cur_batch_id)
    values (a_consumer, a_subconsumer, a_batch_id)
    on conflict (consumer_id, subconsumer_id) do nothing;
    if not found then
        select b.cur_batch_id into v_batch
          from pgq_ext.partial_batch b
         where b.consumer_id = a_consumer
           and b.subconsumer_id = a_subconsumer
           for update;
        if v_batch <> a_batch_id then
            delete from pgq_ext.completed_event e
             where e.consumer_id = a_consumer
               and e.subconsumer_id = a_subconsumer
               and e.batch_id = v_batch;
            update pgq_ext.partial_batch b
               set cur_batch_id = a_batch_id
             where b.consumer_id = a_consumer
               and b.subconsumer_id = a_subconsumer;
        end if;
    end if;
    insert into pgq_ext.completed_event (consumer_id, subconsumer_id, batch_id, event_id)
    values (a_consumer, a_subconsumer, a_batch_id, a_event_id)
    on conflict do nothing;
    return found;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_ext, pg_temp;

create or replace function pgq_ext.set_event_done(a_consumer text, a_batch_id bigint, a_event_id bigint)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.set_event_done(3)
    --
    --     As pgq_ext.set_event_done(4), without a subconsumer.
    --
    -- Parameters:
    --     a_consumer - consumer name
    --     a_batch_id - batch of the source queue
    --     a_event_id - event of that batch
    --
    -- Returns:
    --     true  - tagged now
    --     false - was tagged: it has been applied before
    --
    -- Raises:
    --     an argument is null
    --
    -- Calls:
    --     pgq_ext.set_event_done(4)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     the consumer's row; waits for another session of the same consumer
    -- ----------------------------------------------------------------
begin
    return pgq_ext.set_event_done(a_consumer, '', a_batch_id, a_event_id);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_ext, pg_temp;
