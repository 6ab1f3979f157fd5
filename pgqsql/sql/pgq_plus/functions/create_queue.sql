create or replace function pgq.create_queue(i_queue_name text, i_options jsonb)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.create_queue(2)
    --
    --     Creates a queue with options. A queue that exists already is left
    --     as it is; pgq.set_queue_options(2) changes it.
    --
    -- Parameters:
    --     i_queue_name - any text but null
    --     i_options    - as in pgq.set_queue_options(2); null: all defaults
    --
    -- Returns:
    --     1 - created
    --     0 - existed already
    --
    -- Raises:
    --     queue name is null; otherwise as pgq.set_queue_options(2), also when
    --     the queue exists
    --
    -- Calls:
    --     pgq.create_queue(1), pgq.set_queue_options(2), pgq._check_option(2)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq.create_queue(1)
    -- ----------------------------------------------------------------
begin
    if jsonb_typeof(i_options) <> 'object' then
        raise exception 'options of a queue must be a JSON object' using errcode = 'invalid_parameter_value';
    end if;
    perform pgq._check_option(o.key, o.value #>> '{}') from jsonb_each(i_options) o;
    if pgq.create_queue(i_queue_name) = 0 then
        return 0;
    end if;
    if i_options is not null then
        perform pgq.set_queue_options(i_queue_name, i_options);
    end if;
    return 1;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
