create or replace function pgq.maint_rotate_tables_step2()
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.maint_rotate_tables_step2(0)
    --
    --     Second half of the rotations that are half done: records a txid that
    --     is above every transaction that may have written into the table that
    --     was current before. Must run in a later transaction than step 1; a
    --     queue that was rotated by this very transaction is left half done,
    --     and so is one whose row somebody has locked, as an open registration
    --     does: it must not hold up the others. The next round comes back.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     0
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     update - pgq.queue
    --
    -- Locks:
    --     the queue rows, without waiting
    -- ----------------------------------------------------------------
begin
    update pgq.queue q
       set queue_switch_step2 = txid_current()
     where q.queue_id in (
               select h.queue_id
                 from pgq.queue h
                where h.queue_switch_step2 is null
                  and h.queue_switch_step1 <> txid_current()
                  for no key update skip locked);
    return 0;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
