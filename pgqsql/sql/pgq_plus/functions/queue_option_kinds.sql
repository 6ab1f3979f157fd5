create or replace function pgq.queue_option_kinds(
    out option_name text, out value_type text, out default_value text, out minimum text, out above boolean,
    out choices text[], out of_queue boolean, out meaning text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.queue_option_kinds(0)
    --
    --     The options of a queue. This list is all there is to an option:
    --     validation, defaults and error texts follow from it. An option that
    --     is new gets a row here, and its reader asks pgq._queue_option(2).
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     option_name   - name
    --     value_type    - integer, interval, boolean, float8 or text
    --     default_value - null: no value unless set
    --     minimum       - least value, null: any
    --     above         - the minimum itself is too small
    --     choices       - the values there are, null: any
    --     of_queue      - kept in the column queue_<name> of pgq.queue, else in
    --                     pgq.queue_option
    --     meaning       - one line for people
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
    return query
        select k.*
          from (values
            ('ticker_max_count', 'integer', '500', '1', false, null::text[], true,
             'new events that force a tick at once'),
            ('ticker_max_lag', 'interval', '3 seconds', '0', false, null, true,
             'longest time that new events wait for a tick'),
            ('ticker_idle_period', 'interval', '1 minute', '0', false, null, true,
             'longest distance of ticks while nothing happens'),
            ('tick_period', 'interval', null, '0', true, null, false,
             'least time between two ticks and longest time between two looks of skyd'),
            ('ticker_paused', 'boolean', 'false', null, false, null, true,
             'no ticks at all'),
            ('external_ticker', 'boolean', 'false', null, false, null, true,
             'only ticks pushed from outside'),
            ('rotation_period', 'interval', '2 hours', '0', true, null, true,
             'least time between two rotations'),
            ('disable_insert', 'boolean', 'false', null, false, null, true,
             'inserts are refused'),
            ('per_tx_limit', 'integer', null, '0', false, null, true,
             'most events one transaction may insert'),
            ('max_retries', 'integer', null, '0', false, null, false,
             'redeliveries after which an event becomes a dead letter'),
            ('retry_backoff', 'text', 'exponential', null, false, array['fixed', 'linear', 'exponential'], false,
             'how the delay before a redelivery grows'),
            ('retry_base', 'interval', '30 seconds', '0', false, null, false,
             'delay before the first redelivery'),
            ('retry_cap', 'interval', '1 hour', '0', false, null, false,
             'longest delay before a redelivery'),
            ('retry_jitter', 'float8', '0.2', '0', false, null, false,
             'part of the delay that is random, 0 to 1'),
            ('dead_letter_keep', 'interval', null, '0', false, null, false,
             'age at which dead letters are deleted'),
            ('member_stale_after', 'interval', '5 minutes', '0', true, null, false,
             'silence after which the health views call a member of a group stale')
          ) k (option_name, value_type, default_value, minimum, above, choices, of_queue, meaning);
end;
$$ language plpgsql immutable set search_path = pg_catalog, pgq, pg_temp;
