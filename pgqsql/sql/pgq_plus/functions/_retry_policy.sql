create or replace function pgq._retry_policy(
    i_queue_id integer,
    out max_retries integer, out backoff text, out base float8, out cap float8, out jitter float8)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._retry_policy(1)
    --
    --     The options of a queue that say what becomes of an event that could
    --     not be handled.
    --
    -- Parameters:
    --     i_queue_id - queue
    --
    -- Returns:
    --     max_retries - redeliveries before it is a dead letter; null: no limit
    --     backoff     - fixed, linear or exponential
    --     base        - seconds before the first redelivery
    --     cap         - most seconds before any
    --     jitter      - part of the delay that is random
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.queue_option_kinds(0)
    --
    -- Tables:
    --     read   - pgq.queue_option
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    select max(v.value) filter (where v.name = 'max_retries'),
           max(v.value) filter (where v.name = 'retry_backoff'),
           extract(epoch from max(v.value) filter (where v.name = 'retry_base')::interval),
           extract(epoch from max(v.value) filter (where v.name = 'retry_cap')::interval),
           max(v.value) filter (where v.name = 'retry_jitter')
      into max_retries, backoff, base, cap, jitter
      from (select k.option_name as name, coalesce(o.option_value, k.default_value) as value
              from pgq.queue_option_kinds() k
              left join pgq.queue_option o on o.queue_id = i_queue_id and o.option_name = k.option_name) v;
end;
$$ language plpgsql stable set search_path = pg_catalog, pgq, pg_temp;
