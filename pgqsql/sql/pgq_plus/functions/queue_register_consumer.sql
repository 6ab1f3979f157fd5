create or replace function pgq.queue_register_consumer(
    i_queue_name text, i_consumer_name text, i_caller text default pgq.caller_proof())
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.queue_register_consumer(3)
    --
    --     pgq.register_consumer(2) for a role with right read on this queue. The
    --     consumer then belongs to the role that has the grant: other roles with
    --     right read cannot touch it.
    --
    --     Security definer: a right on one queue is no right on the functions and
    --     tables of all.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - consumer name
    --     i_caller        - leave it out: proof of who calls
    --
    -- Returns:
    --     1 - registered
    --     0 - was registered already
    --
    -- Raises:
    --     insufficient_privilege - no right read on the queue, or the consumer
    --     belongs to somebody else
    --     otherwise as pgq.register_consumer(2)
    --
    -- Calls:
    --     pgq._queue_caller(3), pgq.register_consumer(2), pgq._queue_consumer_caller(3)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer, pgq.subscription
    --     insert, update - pgq.consumer_holder
    --
    -- Locks:
    --     as pgq.register_consumer(2)
    -- ----------------------------------------------------------------
declare
    v_who    record;
    v_result integer;
begin
    v_who := pgq._queue_caller(i_queue_name, 'read', i_caller);
    v_result := pgq.register_consumer(i_queue_name, i_consumer_name);
    if v_result = 0 then
        perform pgq._queue_consumer_caller(i_queue_name, i_consumer_name, i_caller);
    elsif v_who.holder is not null then
        insert into pgq.consumer_holder as h (sub_id, queue_id, role_id)
        select s.sub_id, s.sub_queue, v_who.holder
          from pgq.queue q
         cross join pgq.consumer c
          join pgq.subscription s on s.sub_queue = q.queue_id and s.sub_consumer = c.co_id
         where q.queue_name = i_queue_name and c.co_name = i_consumer_name
            on conflict (sub_id) do update set queue_id = excluded.queue_id, role_id = excluded.role_id;
    end if;
    return v_result;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
