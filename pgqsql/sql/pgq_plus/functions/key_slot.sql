create or replace function pgq.key_slot(i_key text, i_slots integer)
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.key_slot(2)
    --
    --     Slot that a key belongs to: the first four bytes of the SHA-256 of the
    --     key in UTF-8, as a big-endian number without sign, modulo the number
    --     of slots. The same on every version and architecture of the server,
    --     and easily computed elsewhere.
    --
    -- Parameters:
    --     i_key   - key
    --     i_slots - number of slots
    --
    -- Returns:
    --     0 to i_slots - 1; null when an argument is null
    --
    -- Raises:
    --     i_slots is 0
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
select (('x' || pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(i_key, 'UTF8')), 'hex'), 8))::pg_catalog.bit(32)::pg_catalog.int8
        % i_slots)::pg_catalog.int4
$$ language sql immutable parallel safe;
