create or replace function pgq.caller_proof()
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.caller_proof(0)
    --
    --     Default of parameter i_caller of the functions for roles with rights
    --     on single queues. A default is computed by the caller, not by the
    --     definer function it is given to, so this is the one place that knows
    --     whose code makes the call. A proof is worth nothing to other roles, in
    --     other sessions and in later transactions.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     proof that the current user is who it is
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.caller
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return (select c.proof from pgq.caller c);
end;
$$ language plpgsql stable;
