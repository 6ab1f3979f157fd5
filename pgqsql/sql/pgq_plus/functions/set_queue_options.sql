create or replace function pgq.set_queue_options(i_queue_name text, i_options jsonb)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.set_queue_options(2)
    --
    --     Changes options of a queue, all or none. Options not named stay as
    --     they are.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_options    - JSON object of names and values; the value null sets
    --                    an option back to its default. For the names see
    --                    pgq.queue_option_kinds()
    --
    -- Returns:
    --     number of options named
    --
    -- Raises:
    --     queue not found; i_options is no object; unknown option, or a value
    --     that is not of its type or out of range
    --
    -- Calls:
    --     pgq._check_option(2), pgq.queue_option_kinds(0)
    --
    -- Tables:
    --     update - pgq.queue
    --     insert, update, delete - pgq.queue_option
    --
    -- Locks:
    --     the queue row
    -- ----------------------------------------------------------------
declare
    v_id     integer;
    v_count  integer := 0;
    v_option record;
    v_value  text;
begin
    if jsonb_typeof(i_options) is distinct from 'object' then
        raise exception 'options of a queue must be a JSON object' using errcode = 'invalid_parameter_value';
    end if;
    select q.queue_id into v_id from pgq.queue q where q.queue_name = i_queue_name for no key update;
    if not found then
        raise exception 'queue not found: %', coalesce(i_queue_name, '<null>') using errcode = 'undefined_object';
    end if;
    for v_option in
        select o.key as name, o.value #>> '{}' as value, k.of_queue, k.value_type, jsonb_typeof(o.value) as kind
          from jsonb_each(i_options) o
          left join pgq.queue_option_kinds() k on k.option_name = o.key
         order by o.key
    loop
        if v_option.kind in ('array', 'object') then
            raise exception 'option % of a queue: % is not a single value', v_option.name, v_option.value
                using errcode = 'invalid_parameter_value';
        end if;
        v_value := pgq._check_option(v_option.name, v_option.value);
        if v_option.of_queue then
            execute format('update pgq.queue set %I = $1::%s where queue_id = $2',
                           'queue_' || v_option.name, v_option.value_type)
            using v_value, v_id;
        elsif v_option.value is null then
            delete from pgq.queue_option o where o.queue_id = v_id and o.option_name = v_option.name;
        else
            insert into pgq.queue_option as o (queue_id, option_name, option_value)
            values (v_id, v_option.name, v_value)
            on conflict (queue_id, option_name) do update set option_value = excluded.option_value;
        end if;
        v_count := v_count + 1;
    end loop;
    return v_count;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
