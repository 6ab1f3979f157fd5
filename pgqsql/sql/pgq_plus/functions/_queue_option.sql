create or replace function pgq._queue_option(i_queue_id integer, i_option_name text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._queue_option(2)
    --
    --     Value of one option that lives in pgq.queue_option, for the
    --     functions that act by it.
    --
    -- Parameters:
    --     i_queue_id    - queue
    --     i_option_name - option
    --
    -- Returns:
    --     what was set, else the default; cast it to the option's type
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.queue_option_kinds(0)
    --
    -- Tables:
    --     read - pgq.queue_option
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_value text;
begin
    select o.option_value into v_value
      from pgq.queue_option o
     where o.queue_id = i_queue_id and o.option_name = i_option_name;
    if not found then
        select k.default_value into v_value
          from pgq.queue_option_kinds() k
         where k.option_name = i_option_name;
    end if;
    return v_value;
end;
$$ language plpgsql stable set search_path = pg_catalog, pgq, pg_temp;
