create or replace function pgq.open_queue(i_queue_name text)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.open_queue(1)
    --
    --     Opens a queue for writing again, however it was closed.
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
    --     pgq.quote_fqname(1)
    --
    -- Tables:
    --     update - pgq.queue
    --
    -- Locks:
    --     the event tables against writers until the transaction ends, if the
    --     queue was closed by pgq.close_queue
    -- ----------------------------------------------------------------
declare
    v_queue pgq.queue%rowtype;
    v_table text;
begin
    update pgq.queue q set queue_disable_insert = false where q.queue_name = i_queue_name returning q.* into v_queue;
    if not found then
        raise exception 'queue not found: %', coalesce(i_queue_name, '<null>') using errcode = 'undefined_object';
    end if;
    for i in 0 .. v_queue.queue_ntables - 1 loop
        v_table := pgq.quote_fqname(v_queue.queue_data_pfx || '_' || i);
        if exists (select 1 from pg_trigger t
                    where t.tgrelid = v_table::regclass and t.tgname = '_skyd_closed' and t.tgenabled <> 'D') then
            execute format('alter table %s disable trigger _skyd_closed', v_table);
        end if;
    end loop;
    return 1;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
