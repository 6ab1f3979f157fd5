create or replace function pgq._tick_snapshot()
returns txid_snapshot as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._tick_snapshot(0)
    --
    --     The snapshot for a tick made now. A snapshot leaves its own
    --     transaction out of its list; as soon as a later transaction has
    --     ended that reads as "ended", and a consumer at this tick would never
    --     see what the transaction has written or is yet to write. So it is
    --     put back into the list, and its events come with the next tick.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     snapshot in which this transaction is not visible
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
declare
    v_now txid_snapshot := txid_current_snapshot();
    v_own bigint := pg_current_xact_id_if_assigned()::text::bigint;
begin
    if v_own < txid_snapshot_xmax(v_now) then
        v_now := format('%s:%s:%s', least(txid_snapshot_xmin(v_now), v_own), txid_snapshot_xmax(v_now),
                        (select string_agg(x::text, ',' order by x)
                           from (select v_own as x union select txid_snapshot_xip(v_now)) i))::txid_snapshot;
    end if;
    return v_now;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
