create or replace function pgq.get_batch_cursor(
    in i_batch_id bigint, in i_cursor_name text, in i_quick_limit int4, in i_extra_where text,
    out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry int4,
    out ev_type text, out ev_data text,
    out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_batch_cursor(4)
    --
    --     Declares a cursor over the events of an open batch in the order of
    --     ev_id and returns the first ones. The rest is read with plain FETCH;
    --     the cursor lives until it is closed or the transaction ends.
    --
    --     The filter is SQL text and runs with the rights and the search_path of
    --     the caller: never make it from input of users.
    --
    -- Parameters:
    --     i_batch_id    - open batch
    --     i_cursor_name - name of the cursor, quoted as an identifier
    --     i_quick_limit - rows to return at once; 0 or less: only declare
    --     i_extra_where - SQL condition over the ten columns, null: no filter
    --
    -- Returns:
    --     rows as pgq.get_batch_events; none and no cursor when batch, name or
    --     limit is null
    --
    -- Raises:
    --     batch not open; cursor exists; error in the filter
    --
    -- Calls:
    --     pgq.batch_event_sql(1)
    --
    -- Tables:
    --     read   - data tables of the queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_sql text;
begin
    if i_batch_id is null or i_cursor_name is null or i_quick_limit is null then
        return;
    end if;
    v_sql := pgq.batch_event_sql(i_batch_id);
    if i_extra_where is not null then
        v_sql := 'select * from (' || v_sql || ') ev where ' || i_extra_where || E'\n order by 1';
    end if;
    execute pg_catalog.format('declare %I no scroll cursor for ', i_cursor_name) || v_sql;
    if i_quick_limit > 0 then
        return query execute pg_catalog.format('fetch %s from %I', i_quick_limit, i_cursor_name);
    end if;
end;
$$ language plpgsql volatile;

create or replace function pgq.get_batch_cursor(
    in i_batch_id bigint, in i_cursor_name text, in i_quick_limit int4,
    out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry int4,
    out ev_type text, out ev_data text,
    out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.get_batch_cursor(3)
    --
    --     As pgq.get_batch_cursor(4), without a filter.
    --
    -- Parameters:
    --     i_batch_id    - open batch
    --     i_cursor_name - name of the cursor, quoted as an identifier
    --     i_quick_limit - rows to return at once; 0 or less: only declare
    --
    -- Returns:
    --     rows as pgq.get_batch_events; none when an argument is null
    --
    -- Raises:
    --     batch not open; cursor exists
    --
    -- Calls:
    --     pgq.get_batch_cursor(4)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query select b.* from pgq.get_batch_cursor(i_batch_id, i_cursor_name, i_quick_limit, null) b;
end;
$$ language plpgsql volatile strict;
