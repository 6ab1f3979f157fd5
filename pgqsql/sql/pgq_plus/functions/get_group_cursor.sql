create or replace function pgq.get_group_cursor(
    in i_batch jsonb, in i_cursor_name text, in i_quick_limit int4,
    out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry int4,
    out ev_type text, out ev_data text,
    out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_group_cursor(3)
    --
    --     Declares a cursor over the events of a batch of an ordered group, as
    --     pgq.get_batch_cursor does, and returns the first ones. The rest is
    --     read with plain FETCH.
    --
    -- Parameters:
    --     i_batch       - batch of pgq.next_group_batch
    --     i_cursor_name - name of the cursor, quoted as an identifier
    --     i_quick_limit - rows to return at once; 0 or less: only declare
    --
    -- Returns:
    --     rows as pgq.get_group_events; none when an argument is null
    --
    -- Raises:
    --     batch gone; cursor exists
    --
    -- Calls:
    --     pgq._group_event_sql(1)
    --
    -- Tables:
    --     read   - data tables of the queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    execute pg_catalog.format('declare %I no scroll cursor for ', i_cursor_name) || pgq._group_event_sql(i_batch);
    if i_quick_limit > 0 then
        return query execute pg_catalog.format('fetch %s from %I', i_quick_limit, i_cursor_name);
    end if;
end;
$$ language plpgsql volatile strict;
