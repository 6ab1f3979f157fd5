create or replace function pgq_ext.get_last_tick(a_consumer text, a_subconsumer text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.get_last_tick(2)
    --
    --     Last tick that this consumer has done here.
    --
    --     Security definer: nobody but the owner has rights on the tables.
    --
    -- Parameters:
    --     a_consumer    - consumer name
    --     a_subconsumer - subconsumer name, empty: none
    --
    -- Returns:
    --     tick id, or null when none is stored
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq_ext.completed_tick
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return (select t.last_tick_id
              from pgq_ext.completed_tick t
             where t.consumer_id = a_consumer
               and t.subconsumer_id = a_subconsumer);
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_ext, pg_temp;

create or replace function pgq_ext.get_last_tick(a_consumer text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_ext.get_last_tick(1)
    --
    --     As pgq_ext.get_last_tick(2), without a subconsumer.
    --
    -- Parameters:
    --     a_consumer - consumer name
    --
    -- Returns:
    --     tick id, or null when none is stored
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq_ext.get_last_tick(2)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return pgq_ext.get_last_tick(a_consumer, '');
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_ext, pg_temp;
