create or replace function pgq.seq_getval(i_seq_name text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.seq_getval(1)
    --
    --     Reads last_value of a sequence without advancing it.
    --
    -- Parameters:
    --     i_seq_name - sequence name, split at the first dot; without a dot
    --                  the schema is public
    --
    -- Returns:
    --     last_value; null for a null name
    --
    -- Raises:
    --     sequence does not exist, or may not be read
    --
    -- Calls:
    --     pgq.quote_fqname(1)
    --
    -- Tables:
    --     read   - the sequence
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_value bigint;
begin
    execute 'select last_value from ' || pgq.quote_fqname(i_seq_name) into v_value;
    return v_value;
end;
$$ language plpgsql volatile strict set search_path = pg_catalog, pgq, pg_temp;
