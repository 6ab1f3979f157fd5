create or replace function pgq.finish_group_batch(i_batch jsonb)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.finish_group_batch(1)
    --
    --     Finishes a batch of an ordered group: its slots move to the end tick,
    --     all or none. Call it in the transaction that writes what the batch has
    --     brought about: then the effect is exactly once, whoever else believes
    --     to own the slots.
    --
    --     Not the clock but the epoch decides: a lease that has run out may
    --     finish as long as nobody has taken the slots.
    --
    --     Security definer: consumers have no right to write the tables of
    --     groups.
    --
    -- Parameters:
    --     i_batch - batch of pgq.next_group_batch
    --
    -- Returns:
    --     1 - finished
    --     0 - not the owner any more, or finished already, or it goes beyond
    --         the tick at which the number of slots changes: roll back
    --
    -- Raises:
    --     the end is no tick of the queue after the start:
    --     pgq.next_group_batch gives no such batch
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.slot_group, pgq.tick
    --     update - pgq.group_slot
    --
    -- Locks:
    --     the slots of the batch, until the transaction ends
    -- ----------------------------------------------------------------
declare
    v_slots  integer[];
    v_locked bigint;
    v_group  pgq.slot_group%rowtype;
begin
    -- by slot, as everybody does, so that nobody waits in a circle
    perform 1
       from pgq.group_slot s
      where s.group_id = (i_batch ->> 'group')::integer
        and s.slot = any (array(select a::integer from jsonb_array_elements_text(i_batch -> 'slots') a))
      order by s.slot
        for no key update;
    select array_agg(s.slot) into v_slots
      from pgq.group_slot s
      join jsonb_array_elements_text(i_batch -> 'slots') with ordinality a (slot, i) on a.slot::integer = s.slot
      join jsonb_array_elements_text(i_batch -> 'epochs') with ordinality e (epoch, i) on e.i = a.i and e.epoch::bigint = s.epoch
     where s.group_id = (i_batch ->> 'group')::integer
       and s.worker = i_batch ->> 'worker'
       and s.last_tick = (i_batch ->> 'prev')::bigint;
    v_locked := cardinality(v_slots);
    if v_locked is null or v_locked <> jsonb_array_length(i_batch -> 'slots') then
        return 0;
    end if;
    -- read after our locks, on which a change of the number of slots waits or we on it
    select g.* into v_group from pgq.slot_group g where g.group_id = (i_batch ->> 'group')::integer;
    if (i_batch ->> 'next')::bigint > v_group.cut_tick then
        return 0;
    end if;
    perform 1
       from pgq.tick t
      where t.tick_queue = v_group.queue_id
        and t.tick_id = (i_batch ->> 'next')::bigint
        and t.tick_id > (i_batch ->> 'prev')::bigint;
    if not found then
        raise exception 'batch of group % cannot end at tick %', v_group.group_name, coalesce(i_batch ->> 'next', '<null>')
            using errcode = 'invalid_parameter_value', hint = 'Finish the batch as pgq.next_group_batch gave it.';
    end if;
    update pgq.group_slot s
       set last_tick = (i_batch ->> 'next')::bigint,
           active = clock_timestamp()
     where s.group_id = (i_batch ->> 'group')::integer and s.slot = any (v_slots);
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
