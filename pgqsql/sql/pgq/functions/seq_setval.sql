create or replace function pgq.seq_setval(i_seq_name text, i_new_value int8)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.seq_setval(2)
    --
    --     Lifts a sequence to a value. Unlike setval it never goes backwards.
    --
    -- Parameters:
    --     i_seq_name  - sequence name, split at the first dot; without a dot
    --                   the schema is public
    --     i_new_value - value the sequence shall have at least
    --
    -- Returns:
    --     the resulting last_value; null when an argument is null
    --
    -- Raises:
    --     sequence does not exist, or may not be changed
    --
    -- Calls:
    --     pgq.quote_fqname(1), pgq.seq_getval(1)
    --
    -- Tables:
    --     update - the sequence
    --
    -- Locks:
    --     none; a session that takes values at the same moment is not held
    --     back, so use it only where nothing else advances the sequence
    -- ----------------------------------------------------------------
declare
    v_value bigint := pgq.seq_getval(i_seq_name);
begin
    if i_new_value > v_value then
        v_value := pg_catalog.setval(pgq.quote_fqname(i_seq_name)::regclass, i_new_value);
    end if;
    return v_value;
end;
$$ language plpgsql volatile strict set search_path = pg_catalog, pgq, pg_temp;
