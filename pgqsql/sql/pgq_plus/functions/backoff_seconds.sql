create or replace function pgq.backoff_seconds(
    i_backoff text, i_base double precision, i_cap double precision, i_jitter double precision, i_retry integer)
returns double precision as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.backoff_seconds(5)
    --
    --     Delay before a redelivery by a backoff policy: base for fixed, base
    --     times n for linear, base doubled each time for exponential, but
    --     never more than the cap (or a century). Jitter takes a random part away, so that
    --     events that failed together do not come back together.
    --
    -- Parameters:
    --     i_backoff - fixed, linear or exponential
    --     i_base    - seconds before the first redelivery
    --     i_cap     - most seconds, null: no limit
    --     i_jitter  - part of the delay that is random, 0 to 1
    --     i_retry   - which redelivery, from 1
    --
    -- Returns:
    --     seconds, between (1 - jitter) * delay and delay
    --
    -- Raises:
    --     unknown policy
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
declare
    v_retry integer := greatest(coalesce(i_retry, 1), 1);
    v_delay double precision;
begin
    v_delay := case i_backoff
        when 'fixed' then i_base
        when 'linear' then i_base * v_retry
        -- 2^40 seconds are longer than any event waits
        when 'exponential' then i_base * power(2, least(v_retry - 1, 40))
    end;
    if v_delay is null then
        raise exception 'unknown backoff policy: %', coalesce(i_backoff, '<null>')
            using errcode = 'invalid_parameter_value', hint = 'It is fixed, linear or exponential.';
    end if;
    return least(v_delay, i_cap, 3e9) * (1 - least(coalesce(i_jitter, 0), 1) * random());
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
