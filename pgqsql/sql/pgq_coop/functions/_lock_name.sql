create or replace function pgq_coop._lock_name(i_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop._lock_name(1)
    --
    --     Makes a consumer name if it is missing and locks it against removal
    --     and against other registrations.
    --
    -- Parameters:
    --     i_name - consumer name
    --
    -- Returns:
    --     its co_id
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     insert - pgq.consumer
    --
    -- Locks:
    --     the consumer's row, until the transaction ends
    -- ----------------------------------------------------------------
declare
    v_id integer;
begin
    -- the name may be removed between our insert and our lock: try again
    loop
        insert into pgq.consumer (co_name) values (i_name) on conflict (co_name) do nothing;
        select c.co_id into v_id from pgq.consumer c where c.co_name = i_name for no key update;
        exit when found;
    end loop;
    return v_id;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_coop, pg_temp;
