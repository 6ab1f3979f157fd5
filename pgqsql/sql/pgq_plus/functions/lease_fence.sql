create or replace function pgq.lease_fence(i_unit text, i_epoch bigint)
returns void as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.lease_fence(2)
    --
    --     First statement of every transaction that works under a lease: it
    --     fails when the unit has changed hands, and keeps it from changing
    --     hands until the transaction ends. Let such transactions be short.
    --
    -- Parameters:
    --     i_unit - name of the unit
    --     i_epoch - epoch that pgq.lease_take gave
    --
    -- Returns:
    --     nothing
    --
    -- Raises:
    --     object_not_in_prerequisite_state - lease lost: the epoch is not the current one
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     select for key share - pgq.lease
    --
    -- Locks:
    --     the row of the unit, shared, until the transaction ends
    -- ----------------------------------------------------------------
begin
    -- The epoch is part of a unique key: a key share lock stands in the way of
    -- those who change it, and lets renewals through.
    perform from pgq.lease l where l.lease_unit = i_unit and l.lease_epoch = i_epoch for key share;
    if not found then
        raise exception using errcode = 'object_not_in_prerequisite_state',
            message = format('lease lost: epoch %s of unit %s is over', coalesce(i_epoch::text, 'null'), coalesce(i_unit, 'null'));
    end if;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq, pg_temp;
