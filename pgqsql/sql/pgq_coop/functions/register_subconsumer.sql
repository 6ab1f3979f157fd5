create or replace function pgq_coop.register_subconsumer(i_queue_name text, i_consumer_name text, i_subconsumer_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop.register_subconsumer(3)
    --
    --     Adds a member to a cooperative group. The main consumer is
    --     registered at the newest tick when it is missing. The member's name
    --     on the queue is <consumer>.<subconsumer>; it shares the sub_id of
    --     the main consumer, so retry events reach the group.
    --
    --     Security definer: consumers have no right to write the
    --     subscriptions.
    --
    -- Parameters:
    --     i_queue_name       - queue name
    --     i_consumer_name    - name of the main consumer
    --     i_subconsumer_name - name of the subconsumer in its group
    --
    -- Returns:
    --     1 - added
    --     0 - was a member already
    --
    -- Raises:
    --     queue not found; a name is null; another consumer has the member's
    --     name
    --
    -- Calls:
    --     pgq.register_consumer(2), pgq_coop._lock_name(1),
    --     pgq_coop._lock_main(2)
    --
    -- Tables:
    --     read   - pgq.subscription
    --     insert - pgq.subscription
    --
    -- Locks:
    --     the main consumer's subscription row, the row of the member's name;
    --     waits for other members
    -- ----------------------------------------------------------------
declare
    v_main     pgq.subscription%rowtype;
    v_name     text := i_consumer_name || '.' || i_subconsumer_name;
    v_consumer integer;
    v_owner    integer;
begin
    if v_name is null then
        raise exception 'consumer or subconsumer name is null' using errcode = 'null_value_not_allowed';
    end if;
    -- Whoever changes a group locks the subscription of its main consumer
    -- first, and names after that: so nobody waits in a circle.
    v_main := pgq_coop._lock_main(i_queue_name, i_consumer_name);
    if v_main.sub_id is null then
        -- the C extension cannot register one name twice at once
        perform pgq_coop._lock_name(i_consumer_name);
        perform pgq.register_consumer(i_queue_name, i_consumer_name);
        v_main := pgq_coop._lock_main(i_queue_name, i_consumer_name);
    end if;

    v_consumer := pgq_coop._lock_name(v_name);
    select s.sub_id into v_owner
      from pgq.subscription s
     where s.sub_queue = v_main.sub_queue and s.sub_consumer = v_consumer;
    if v_owner <> v_main.sub_id then
        raise exception 'consumer % on queue % exists and is no member of group %',
                v_name, i_queue_name, i_consumer_name
            using errcode = 'duplicate_object', hint = 'Use another subconsumer name.';
    end if;
    if v_owner is not null then
        return 0;
    end if;
    insert into pgq.subscription (sub_id, sub_queue, sub_consumer, sub_last_tick)
    values (v_main.sub_id, v_main.sub_queue, v_consumer, null);
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_coop, pg_temp;
