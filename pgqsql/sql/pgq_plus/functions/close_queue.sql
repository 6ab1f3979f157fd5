create or replace function pgq.close_queue(i_queue_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.close_queue(1)
    --
    --     Closes a queue for writing, so that nothing is inserted after this
    --     transaction commits. The flag queue_disable_insert alone leaves a
    --     gap: a transaction whose snapshot is older than the flag does not
    --     see it. Triggers on the event tables are seen by everybody.
    --     Sessions with session_replication_role = replica still write, and so
    --     does whoever copies batches for a cascade.
    --
    --     Security definer: the event tables belong to the role that installed
    --     PgQ.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     1
    --
    -- Raises:
    --     queue not found
    --
    -- Calls:
    --     pgq.quote_fqname(1), pgq._refuse_insert(0)
    --
    -- Tables:
    --     update - pgq.queue
    --
    -- Locks:
    --     the event tables against writers until the transaction ends; waits
    --     for open writers, lets readers pass
    -- ----------------------------------------------------------------
declare
    v_queue pgq.queue%rowtype;
    v_table text;
begin
    update pgq.queue q set queue_disable_insert = true where q.queue_name = i_queue_name returning q.* into v_queue;
    if not found then
        raise exception 'queue not found: %', coalesce(i_queue_name, '<null>') using errcode = 'undefined_object';
    end if;
    for i in 0 .. v_queue.queue_ntables - 1 loop
        v_table := pgq.quote_fqname(v_queue.queue_data_pfx || '_' || i);
        -- anew each time, with this transaction: its age tells who may have seen the queue open since the last time
        execute format('create or replace trigger _skyd_closed before insert on %s for each row
                        execute function pgq._refuse_insert(%L, %L)', v_table, i_queue_name, txid_current());
    end loop;
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
