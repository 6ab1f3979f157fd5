create or replace function pgq._rebase_events(
    i_table regclass, i_base bigint, i_own bigint, i_next bigint, i_since bigint,
    i_seen bigint[], i_open bigint[], i_first integer[])
returns void as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._rebase_events(8)
    --
    --     Gives the events of one data table new transaction ids, in one pass.
    --
    --     An event that was written here since the restore has an id that lies
    --     below the ticks of the dump, as if they had seen it. It is told from
    --     those of the dump by its row: that has the same id, or a higher one
    --     of a savepoint, while rows of the dump have that of their COPY.
    --
    -- Parameters:
    --     i_table - data table
    --     i_base  - id below the first tick
    --     i_own   - id for events that no tick saw
    --     i_next  - id that the server has not given out
    --     i_since - id of about the restore; null when no tick is newer than
    --               this server
    --     i_seen  - upper end of the snapshot of each tick, never falling
    --     i_open  - transactions that were open at a tick, in order
    --     i_first - number of the tick that saw each of them first
    --
    -- Returns:
    --     nothing
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     update - the data table
    --
    -- Locks:
    --     the rows
    -- ----------------------------------------------------------------
declare
    v_dumped bigint[];
begin
    if i_since is not null then
        execute format('select array(select distinct e.xmin::text::bigint from %s e where e.ev_txid > $1 limit 1000)', i_table)
           into v_dumped
          using i_next;
    end if;
    execute format($sql$
        update %s e
           set ev_txid = (
               select case when n.first > cardinality($4) or n.here then $2 else $1 + n.first - 1 end
                 from (select case when $5[width_bucket(e.ev_txid, $5)] = e.ev_txid
                                   then $6[width_bucket(e.ev_txid, $5)]
                                   else width_bucket(e.ev_txid, $4) + 1 end as first,
                              coalesce(e.ev_txid between $3 and $8
                                       and (e.xmin::text::bigint = e.ev_txid & 4294967295
                                            or e.xmin::text::bigint > e.ev_txid & 4294967295
                                               and e.xmin::text::bigint <> all ($7)), false) as here) n)$sql$, i_table)
      using i_base, i_own, i_since, i_seen, i_open, i_first, v_dumped, i_next;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
