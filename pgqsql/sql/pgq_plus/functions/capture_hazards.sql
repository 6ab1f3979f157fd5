create or replace function pgq.capture_hazards(
    in i_table regclass default null, out capture_trigger text, out table_name regclass, out hazard text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.capture_hazards(1)
    --
    --     Tells where statement triggers write events in the wrong order or
    --     not at all. A row trigger that changes the same table again runs its
    --     statement to the end before the statement trigger of the outer one
    --     fires: the inner change is written first and the replica ends with
    --     the older value.
    --
    -- Parameters:
    --     i_table - this table, whether captured or not; null: all tables with
    --               statement capture
    --
    -- Returns:
    --     one row for each hazard: capture_trigger (null for a table that is
    --     not captured by statement), table_name, hazard (what is wrong)
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
    return query
        with captured as (
            select min(t.tgname)::text as name, t.tgrelid as relid
              from pg_trigger t
              join pg_proc p on p.oid = t.tgfoid
             where p.pronamespace = 'pgq'::regnamespace
               and p.proname in ('logutriga_stmt', 'sqltriga_stmt', 'jsontriga_stmt')
               and (i_table is null or t.tgrelid = i_table)
             group by t.tgrelid
        ), asked as (
            select c.name, c.relid from captured c
             union all
            select null, i_table::oid where i_table is not null and not exists (select from captured)
        )
        -- AFTER (neither before nor instead of), for each row
        select a.name, a.relid::regclass, format('row trigger %I fires after changes and may change the table again', t.tgname)
          from asked a
          join pg_trigger t on t.tgrelid = a.relid
         where not t.tgisinternal
           and t.tgtype & 1 = 1 and t.tgtype & 66 = 0
        union all
        select a.name, a.relid::regclass, format('foreign key %I changes rows of the table itself', c.conname)
          from asked a
          join pg_constraint c on c.conrelid = a.relid and c.confrelid = a.relid and c.contype = 'f'
         where c.confdeltype not in ('a', 'r') or c.confupdtype not in ('a', 'r')
        union all
        select a.name, a.relid::regclass, 'the table has partitions or children, or is one, or is no plain table'
          from asked a
         where exists (select from pg_inherits i where i.inhparent = a.relid or i.inhrelid = a.relid)
            or (select r.relkind from pg_class r where r.oid = a.relid) <> 'r'
         order by 2, 3;
end;
$$ language plpgsql stable set search_path = pg_catalog, pgq, pg_temp;
