create or replace function pgq._consumer_over(i_limit pgq.consumer_limit, i_lag interval, i_ticks bigint, i_events bigint)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._consumer_over(4)
    --
    --     Compares a consumer with its limit.
    --
    -- Parameters:
    --     i_limit  - limit
    --     i_lag    - age of the last finished tick
    --     i_ticks  - ticks behind
    --     i_events - events behind
    --
    -- Returns:
    --     what it is over, in words for people; null when it is within
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return nullif(concat_ws(', ',
        case when i_lag > i_limit.max_lag
             then 'lag ' || date_trunc('second', i_lag) || ' is over ' || i_limit.max_lag end,
        case when i_ticks > i_limit.max_ticks then i_ticks || ' ticks are over ' || i_limit.max_ticks end,
        case when i_events > i_limit.max_events then i_events || ' events are over ' || i_limit.max_events end), '');
end;
$$ language plpgsql stable set search_path = pg_catalog, pgq, pg_temp;
