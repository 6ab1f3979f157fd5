create or replace function pgq.maint_tables_to_vacuum()
returns setof text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.maint_tables_to_vacuum(0)
    --
    --     Small tables with many updates that the maintenance has to vacuum
    --     because the server does not.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     names of the existing ones; nothing when autovacuum is on
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    if current_setting('autovacuum') = 'on' then
        return;
    end if;
    return query
        select v.name
          from unnest(array[
                   'pgq.subscription', 'pgq.consumer', 'pgq.queue', 'pgq.tick', 'pgq.retry_queue',
                   'pgq_ext.completed_tick', 'pgq_ext.completed_batch', 'pgq_ext.completed_event',
                   'pgq_ext.partial_batch', 'pgq_node.local_state', 'londiste.seq_info',
                   'txid.epoch', 'londiste.completed']) with ordinality v (name, n)
          join pg_namespace s on s.nspname = split_part(v.name, '.', 1)
          join pg_class c on c.relnamespace = s.oid
                         and c.relname = split_part(v.name, '.', 2)
                         and c.relkind = 'r'
         order by v.n;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
