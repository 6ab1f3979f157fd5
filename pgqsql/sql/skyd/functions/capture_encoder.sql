create or replace function skyd.capture_encoder(i_table oid, i_trigger text, i_op text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_encoder(3)
    --
    --     SQL for the call of the encoder of a row trigger.
    --
    -- Parameters:
    --     i_table   - table
    --     i_trigger - name of the trigger
    --     i_op      - INSERT, UPDATE or DELETE
    --
    -- Returns:
    --     expression of type boolean on $1, or $1 and $2, the new and the old
    --     row
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
    return format('skyd_gen.r%s_%s(%L, %s)', i_table, to_hex(hashtextextended(i_trigger, 0)), i_op,
                  case i_op when 'INSERT' then '$1, null' when 'UPDATE' then '$1, $2' else 'null, $1' end);
end;
$$ language plpgsql immutable set search_path = pg_catalog, skyd, pg_temp;
