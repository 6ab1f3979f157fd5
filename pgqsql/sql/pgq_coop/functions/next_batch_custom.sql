create or replace function pgq_coop.next_batch_custom(i_queue_name text, i_consumer_name text, i_subconsumer_name text, i_min_lag interval, i_min_count int4, i_min_interval interval)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop.next_batch_custom(6)
    --
    --     Opens a batch for a member with wishes for its size.
    --
    -- Parameters:
    --     i_queue_name       - queue name
    --     i_consumer_name    - name of the main consumer
    --     i_subconsumer_name - name of the subconsumer in its group
    --     i_min_lag          - the end tick must be at least this old
    --     i_min_count        - events wanted at least, by the event counter
    --     i_min_interval     - time the batch shall span at least
    --
    -- Returns:
    --     batch id, or null when there is nothing
    --
    -- Raises:
    --     queue not found; the main consumer has an open batch of its own; its
    --     position tick is gone
    --
    -- Calls:
    --     pgq_coop.next_batch_custom(7)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     as pgq_coop.next_batch_custom(7)
    -- ----------------------------------------------------------------
begin
    return pgq_coop.next_batch_custom(i_queue_name, i_consumer_name, i_subconsumer_name,
                                      i_min_lag, i_min_count, i_min_interval, null);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq_coop, pg_temp;

create or replace function pgq_coop.next_batch_custom(i_queue_name text, i_consumer_name text, i_subconsumer_name text, i_min_lag interval, i_min_count int4, i_min_interval interval, i_dead_interval interval)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_coop.next_batch_custom(7)
    --
    --     Opens a batch for a member of a cooperative group: the open one if
    --     it has one, else that of a dead member, else the group's next one.
    --     Main consumer and member are registered when they are missing. The
    --     group's position advances at once, so batches may be finished in any
    --     order.
    --
    --     A batch that is taken over gets a new id. The dead member, should it
    --     come back, cannot close what its successor works on: its
    --     finish_batch answers 0.
    --
    --     Security definer: consumers have no right to write the
    --     subscriptions.
    --
    -- Parameters:
    --     i_queue_name       - queue name
    --     i_consumer_name    - name of the main consumer
    --     i_subconsumer_name - name of the subconsumer in its group
    --     i_min_lag          - the end tick must be at least this old
    --     i_min_count        - events wanted at least, by the event counter
    --     i_min_interval     - time the batch shall span at least
    --     i_dead_interval    - members silent for longer lose their batch;
    --                          null: none do
    --
    -- Returns:
    --     batch id, or null when there is nothing
    --
    -- Raises:
    --     queue not found; the main consumer has an open batch of its own; its
    --     position tick is gone
    --
    -- Calls:
    --     pgq_coop._lock_main(2), pgq_coop._lock_row(2),
    --     pgq_coop.register_subconsumer(3), pgq_coop._take_over(4),
    --     pgq_coop._next_tick(5)
    --
    -- Tables:
    --     read   - pgq.consumer, pgq.tick
    --     update - pgq.subscription
    --
    -- Locks:
    --     the main consumer's subscription row; waits for other members
    -- ----------------------------------------------------------------
declare
    v_main   pgq.subscription%rowtype := pgq_coop._lock_main(i_queue_name, i_consumer_name);
    v_member pgq.subscription%rowtype;
    v_row    tid;   -- of the member
    v_place  tid;   -- of the main consumer
    v_tick   bigint;
begin
    loop
        select pgq_coop._lock_row(v_main.sub_queue, c.co_id) into v_row
          from pgq.consumer c
         where c.co_name = i_consumer_name || '.' || i_subconsumer_name;
        -- in a statement of its own, which sees what the lock waited for
        select s.* into v_member from pgq.subscription s where s.ctid = v_row and s.sub_id = v_main.sub_id;
        exit when found;
        perform pgq_coop.register_subconsumer(i_queue_name, i_consumer_name, i_subconsumer_name);
        v_main := pgq_coop._lock_main(i_queue_name, i_consumer_name);
    end loop;
    if v_main.sub_batch is not null then
        raise exception 'main consumer % on queue % has an open batch of its own: %',
                i_consumer_name, i_queue_name, v_main.sub_batch
            using errcode = 'object_in_use', hint = 'Finish it with pgq.finish_batch.';
    end if;
    if v_member.sub_batch is not null then
        update pgq.subscription s
           set sub_active = now()
         where s.ctid = v_row;
        return v_member.sub_batch;
    end if;

    if i_dead_interval is not null and pgq_coop._take_over(v_main, v_member, v_row, i_dead_interval) then
        if current_setting('synchronous_commit') = 'off' then
            perform set_config('synchronous_commit', 'local', true);
        end if;
        v_row := pgq_coop._lock_row(v_member.sub_queue, v_member.sub_consumer);
        return (select s.sub_batch from pgq.subscription s where s.ctid = v_row);
    end if;

    v_tick := pgq_coop._next_tick(v_main, i_consumer_name, i_min_lag, i_min_count, i_min_interval);
    if v_tick is null then
        return null;
    end if;
    -- as pgq.next_batch_custom does, and why
    if current_setting('synchronous_commit') = 'off' then
        perform set_config('synchronous_commit', 'local', true);
    end if;
    v_place := pgq_coop._lock_row(v_main.sub_queue, v_main.sub_consumer);
    update pgq.subscription s
       set sub_last_tick = v_tick,
           sub_active = now()
     where s.ctid = v_place;
    update pgq.subscription s
       set sub_batch = nextval('pgq.batch_id_seq'),
           sub_last_tick = v_main.sub_last_tick,
           sub_next_tick = v_tick,
           sub_active = now()
     where s.ctid = v_row
    returning s.sub_batch into v_member.sub_batch;
    return v_member.sub_batch;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_coop, pg_temp;
