create or replace function pgq._queue_consumer_caller(i_queue_name text, i_consumer_name text, i_caller text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._queue_consumer_caller(3)
    --
    --     Lets those pass who may act for a consumer: who may read its queue and
    --     is the role whose grant registered it, or has that role's rights.
    --
    --     Called under a pinned search path only.
    --
    -- Parameters:
    --     i_queue_name    - queue name
    --     i_consumer_name - consumer name
    --     i_caller        - pgq.caller_proof() of the caller
    --
    -- Returns:
    --     1
    --
    -- Raises:
    --     insufficient_privilege - no right on the queue, or the consumer is not
    --     the caller's or not registered
    --
    -- Calls:
    --     pgq._queue_caller(3)
    --
    -- Tables:
    --     read   - pgq.queue, pgq.consumer, pgq.subscription, pgq.consumer_holder
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_who record;
begin
    v_who := pgq._queue_caller(i_queue_name, 'read', i_caller);
    if v_who.holder is null then
        return 1;
    end if;
    perform 1
       from pgq.queue q
      cross join pgq.consumer c
       join pgq.subscription s on s.sub_queue = q.queue_id and s.sub_consumer = c.co_id
       join pgq.consumer_holder h on h.sub_id = s.sub_id and h.queue_id = q.queue_id
      where q.queue_name = i_queue_name and c.co_name = i_consumer_name
        and pg_has_role(v_who.caller, h.role_id, 'usage');
    if not found then
        raise exception 'no right to consumer % of queue %', coalesce(i_consumer_name, '<null>'), i_queue_name
            using errcode = 'insufficient_privilege',
                  hint = 'It belongs to the role that registered it with pgq.queue_register_consumer.';
    end if;
    return 1;
end;
$$ language plpgsql volatile;
