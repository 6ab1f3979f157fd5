create or replace function pgq._check_option(i_option_name text, i_value text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._check_option(2)
    --
    --     Validates one option of a queue against pgq.queue_option_kinds().
    --
    -- Parameters:
    --     i_option_name - option
    --     i_value       - value as text, null: the default
    --
    -- Returns:
    --     the value in the form it is stored in; null for an option that then
    --     has no value
    --
    -- Raises:
    --     22023: no such option; the value is not of its type, below its
    --     minimum or not one of its choices
    --
    -- Calls:
    --     pgq.queue_option_kinds(0)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_kind  record;
    v_value text;
    v_fits  boolean := true;
begin
    select k.* into v_kind from pgq.queue_option_kinds() k where k.option_name = i_option_name;
    if not found then
        raise exception 'unknown option of a queue: %', coalesce(i_option_name, '<null>')
            using errcode = 'invalid_parameter_value',
                  hint = 'Options: '
                         || (select string_agg(k.option_name, ', ' order by k.option_name) from pgq.queue_option_kinds() k)
                         || '.';
    end if;
    if i_value is null then
        return v_kind.default_value;
    end if;
    begin
        case v_kind.value_type
            when 'integer' then
                v_value := i_value::integer;
                v_fits := v_value::integer >= v_kind.minimum::integer
                          and not (v_kind.above and v_value::integer = v_kind.minimum::integer);
            when 'float8' then
                v_value := i_value::float8;
                v_fits := v_value::float8 >= v_kind.minimum::float8 and v_value::float8 < 'infinity'
                          and not (v_kind.above and v_value::float8 = v_kind.minimum::float8);
            when 'interval' then
                -- one form, whatever the session's IntervalStyle
                v_value := extract(epoch from i_value::interval) || ' seconds';
                v_fits := v_value::interval >= v_kind.minimum::interval and v_value::interval < '1000 years'
                          and not (v_kind.above and v_value::interval = v_kind.minimum::interval);
                v_value := i_value;
            when 'boolean' then
                v_value := i_value::boolean;
            else
                v_value := i_value;
        end case;
    exception
        when data_exception then
            raise exception 'option % of a queue: % is not of type %', i_option_name, quote_literal(i_value), v_kind.value_type
                using errcode = 'invalid_parameter_value', hint = 'It is: ' || v_kind.meaning || '.';
    end;
    if not coalesce(v_fits, true) then
        raise exception 'option % of a queue: % is out of range', i_option_name, quote_literal(i_value)
            using errcode = 'invalid_parameter_value',
                  hint = 'It must be ' || case when v_kind.above then 'more than ' else 'at least ' end
                         || v_kind.minimum || '.';
    end if;
    if v_value <> all (v_kind.choices) then
        raise exception 'option % of a queue: % is not a choice', i_option_name, quote_literal(i_value)
            using errcode = 'invalid_parameter_value',
                  hint = 'Choices: ' || array_to_string(v_kind.choices, ', ') || '.';
    end if;
    return v_value;
end;
$$ language plpgsql stable set search_path = pg_catalog, pgq, pg_temp;
