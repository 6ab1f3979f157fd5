create or replace function pgq.maint_event_keys()
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.maint_event_keys(0)
    --
    --     Removes expired keys of pgq.insert_event_once, up to 10000 for a
    --     call; call it until it answers 0. Keys that a producer is at are
    --     left for the next time.
    --
    --     Security definer: maintenance has no rights on pgq.event_key.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     number of keys removed
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     delete - pgq.event_key
    --
    -- Locks:
    --     row locks on the removed rows
    -- ----------------------------------------------------------------
declare
    v_count integer;
begin
    delete from pgq.event_key k
     where (k.queue_id, k.event_key) in (
               select e.queue_id, e.event_key
                 from pgq.event_key e
                where e.expires_at <= now()
                order by e.expires_at
                limit 10000
                  for update skip locked);
    get diagnostics v_count = row_count;
    return v_count;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
