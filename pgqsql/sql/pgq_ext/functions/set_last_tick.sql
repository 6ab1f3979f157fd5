create or replace function pgq_ext.set_last_tick(a_consumer text, a_subconsumer text, a_tick_id bigint)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.set_last_tick(3)
    --
    --     Notes the last tick done, in the transaction that applied it.
    --
    --     Security definer: nobody but the owner has rights on the tables.
    --
    -- Parameters:
    --     a_consumer    - consumer name
    --     a_subconsumer - subconsumer name, empty: none
    --     a_tick_id     - tick, also a lower one than stored; null: forget
    --
    -- Returns:
    --     1
    --
    -- Raises:
    --     a name is null and the tick is not
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     insert - pgq_ext.completed_tick
    --     update - pgq_ext.completed_tick
    --     delete - pgq_ext.completed_tick
    --
    -- Locks:
    --     the consumer's row
    -- ----------------------------------------------------------------
begin
    if a_tick_id is null then
        delete from pgq_ext.completed_tick t
         where t.consumer_id = a_consumer
           and t.subconsumer_id = a_subconsumer;
    else
        insert into pgq_ext.completed_tick (consumer_id, subconsumer_id, last_tick_id)
        values (a_consumer, a_subconsumer, a_tick_id)
        on conflict (consumer_id, subconsumer_id) do update
           set last_tick_id = excluded.last_tick_id;
    end if;
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_ext, pg_temp;

create or replace function pgq_ext.set_last_tick(a_consumer text, a_tick_id bigint)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.set_last_tick(2)
    --
    --     As pgq_ext.set_last_tick(3), without a subconsumer.
    --
    -- Parameters:
    --     a_consumer - consumer name
    --     a_tick_id  - tick, also a lower one than stored; null: forget
    --
    -- Returns:
    --     1
    --
    -- Raises:
    --     a name is null and the tick is not
    --
    -- Calls:
    --     pgq_ext.set_last_tick(3)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     the consumer's row
    -- ----------------------------------------------------------------
begin
    return pgq_ext.set_last_tick(a_consumer, '', a_tick_id);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_ext, pg_temp;
