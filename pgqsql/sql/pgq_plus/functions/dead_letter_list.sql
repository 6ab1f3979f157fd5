create or replace function pgq.dead_letter_list(
    i_queue_name text, i_consumer_name text, i_after bigint, i_limit integer,
    out dead_id bigint, out queue_name text, out consumer_name text, out dead_time timestamptz, out dead_reason text,
    out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry integer, out ev_type text,
    out ev_data text, out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.dead_letter_list(4)
    --
    --     Dead letters with their events, in the order in which they died, a
    --     page at a time.
    --
    --     Security definer: the table itself is for administration.
    --
    -- Parameters:
    --     i_queue_name    - queue name, null: all
    --     i_consumer_name - consumer name, null: all
    --     i_after         - the last dead_id of the page before, null: from
    --                       the start
    --     i_limit         - most rows, null: all
    --
    -- Returns:
    --     rows by dead_id
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.dead_letter, pgq.queue
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query
        select d.dead_id, q.queue_name, d.dead_consumer, d.dead_time, d.dead_reason,
               d.ev_id, d.ev_time, d.ev_txid, d.ev_retry, d.ev_type, d.ev_data,
               d.ev_extra1, d.ev_extra2, d.ev_extra3, d.ev_extra4
          from pgq.dead_letter d
          join pgq.queue q on q.queue_id = d.dead_queue
         where (q.queue_name = i_queue_name or i_queue_name is null)
           and (d.dead_consumer = i_consumer_name or i_consumer_name is null)
           and d.dead_id > coalesce(i_after, 0)
         order by d.dead_id
         limit i_limit;
end;
$$ language plpgsql stable security definer set search_path = pg_catalog, pgq, pg_temp;

create or replace function pgq.dead_letter_list(
    i_dead_id bigint,
    out dead_id bigint, out queue_name text, out consumer_name text, out dead_time timestamptz, out dead_reason text,
    out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry integer, out ev_type text,
    out ev_data text, out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.dead_letter_list(1)
    --
    --     One dead letter.
    --
    -- Parameters:
    --     i_dead_id - its number
    --
    -- Returns:
    --     one row, none when it does not exist
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq.dead_letter_list(4)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query
        select l.* from pgq.dead_letter_list(null, null, i_dead_id - 1, 1) l where l.dead_id = i_dead_id;
end;
$$ language plpgsql stable security definer set search_path = pg_catalog, pgq, pg_temp;
