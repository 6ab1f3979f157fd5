create or replace function pgq.set_queue_config(x_queue_name text, x_param_name text, x_param_value text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.set_queue_config(3)
    --
    --     Sets one parameter of a queue. The name is the column of pgq.queue
    --     without the prefix queue_.
    --
    -- Parameters:
    --     x_queue_name  - queue name
    --     x_param_name  - ticker_max_count, ticker_max_lag, ticker_idle_period,
    --                     ticker_paused, rotation_period or external_ticker
    --     x_param_value - value as text
    --
    -- Returns:
    --     1
    --
    -- Raises:
    --     queue or parameter name null; queue not found; unknown parameter;
    --     value does not fit the parameter's type
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     update - pgq.queue
    --
    -- Locks:
    --     the queue row
    -- ----------------------------------------------------------------
declare
    v_type text;
begin
    if x_queue_name is null or x_param_name is null then
        raise exception 'queue name or parameter name is null' using errcode = 'null_value_not_allowed';
    end if;
    perform 1 from pgq.queue q where q.queue_name = x_queue_name;
    if not found then
        raise exception 'queue not found: %', x_queue_name using errcode = 'undefined_object';
    end if;
    v_type := case x_param_name
        when 'ticker_max_count'   then 'integer'
        when 'ticker_max_lag'     then 'interval'
        when 'ticker_idle_period' then 'interval'
        when 'ticker_paused'      then 'boolean'
        when 'rotation_period'    then 'interval'
        when 'external_ticker'    then 'boolean'
    end;
    if v_type is null then
        raise exception 'unknown queue parameter: %', x_param_name
            using errcode = 'invalid_parameter_value',
                  hint = 'Known: ticker_max_count, ticker_max_lag, ticker_idle_period, ticker_paused, rotation_period, external_ticker.';
    end if;
    execute format('update pgq.queue set %I = $1::%s where queue_name = $2', 'queue_' || x_param_name, v_type)
    using x_param_value, x_queue_name;
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
