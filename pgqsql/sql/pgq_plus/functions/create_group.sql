create or replace function pgq.create_group(i_queue_name text, i_group_name text, i_key_field text, i_slots integer)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.create_group(4)
    --
    --     Makes a group of workers that share the events of a queue by key: the
    --     events of one key are worked on in order, by one worker at a time.
    --     Each event belongs to the slot pgq.key_slot(key, slots); events
    --     without a key are spread over the slots.
    --
    --     The group is a consumer of the queue, under whose name it holds
    --     rotation. A plain consumer of that name becomes the group where it
    --     stands; else the group starts at the newest tick. Nobody may read the
    --     queue under that name otherwise.
    --
    --     Security definer: consumers have no right to write the tables of
    --     groups.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_group_name - group name
    --     i_key_field  - what the key is: ev_type, ev_extra1 to ev_extra4, or
    --                    ev_key, which stands for ev_extra3
    --     i_slots      - number of slots, 1 to 4096: most workers that can share
    --                    the work
    --
    -- Returns:
    --     1 - made
    --     0 - exists, with this key
    --
    -- Raises:
    --     queue not found; name null; unknown key field; number of slots out of range; the
    --     group exists with another key; the consumer is a cooperative one or
    --     has an open batch
    --
    -- Calls:
    --     pgq.register_consumer(2)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer, pgq.subscription
    --     insert - pgq.slot_group, pgq.group_slot
    --
    -- Locks:
    --     pgq.slot_group: creations take turns
    -- ----------------------------------------------------------------
declare
    v_field text := case i_key_field when 'ev_key' then 'ev_extra3' else i_key_field end;
    v_sub   pgq.subscription%rowtype;
    v_id    integer;
    v_key   text;
begin
    if i_group_name is null then
        raise exception 'name of the group is null' using errcode = 'null_value_not_allowed';
    end if;
    perform 1 from pgq.queue q where q.queue_name = i_queue_name;
    if not found then
        raise exception 'queue not found: %', coalesce(i_queue_name, '<null>') using errcode = 'undefined_object';
    end if;
    if v_field is null or v_field <> all (array['ev_type', 'ev_extra1', 'ev_extra2', 'ev_extra3', 'ev_extra4']) then
        raise exception 'unknown key field: %', coalesce(i_key_field, '<null>')
            using errcode = 'invalid_parameter_value',
                  hint = 'It is one of ev_type, ev_extra1 to ev_extra4, ev_key.';
    end if;
    if i_slots is null or i_slots not between 1 and 4096 then
        raise exception 'number of slots must be 1 to 4096, not %', coalesce(i_slots::text, '<null>')
            using errcode = 'invalid_parameter_value';
    end if;
    -- also keeps the original from registering one name twice at once
    lock table pgq.slot_group in share row exclusive mode;
    select g.key_field into v_key
      from pgq.slot_group g
      join pgq.queue q on q.queue_id = g.queue_id
     where q.queue_name = i_queue_name and g.group_name = i_group_name;
    if found then
        if v_key <> v_field then
            raise exception 'group % on queue % exists with key %', i_group_name, i_queue_name, v_key
                using errcode = 'duplicate_object';
        end if;
        return 0;
    end if;

    perform pgq.register_consumer(i_queue_name, i_group_name);
    select s.* into v_sub
      from pgq.subscription s
      join pgq.queue q on q.queue_id = s.sub_queue
      join pgq.consumer c on c.co_id = s.sub_consumer
     where q.queue_name = i_queue_name and c.co_name = i_group_name;
    if v_sub.sub_last_tick is null or v_sub.sub_batch is not null or exists (
        select 1 from pgq.subscription o
         where o.sub_queue = v_sub.sub_queue and o.sub_id = v_sub.sub_id and o.sub_consumer <> v_sub.sub_consumer)
    then
        raise exception 'consumer % on queue % cannot become a group: it is a cooperative one, or has an open batch',
                i_group_name, i_queue_name
            using errcode = 'object_in_use';
    end if;
    insert into pgq.slot_group (queue_id, consumer_id, group_name, key_field, slots)
    values (v_sub.sub_queue, v_sub.sub_consumer, i_group_name, v_field, i_slots)
    returning group_id into v_id;
    insert into pgq.group_slot (group_id, slot, last_tick)
    select v_id, i, v_sub.sub_last_tick from generate_series(0, i_slots - 1) i;
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
