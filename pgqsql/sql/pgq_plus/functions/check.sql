create or replace function pgq.check(
    out area text, out object text, out severity text, out problem text, out remedy text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.check(0)
    --
    --     Looks for what is wrong with PgQ in this database and says what to do
    --     about it. Reads only. It sees the sessions of others as a member of
    --     pg_monitor, and all it looks at as a member of pgq_admin.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     one row for each problem, errors first; none when all is well: area
    --     (function, trigger, queue, consumer, rotation), object (its name),
    --     severity (error: it does not work or is not safe, warning: it will not
    --     work for ever), problem, remedy (an SQL statement, a command, or advice)
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     pgq._check_functions(0), pgq._check_triggers(0), pgq._check_queues(0),
    --     pgq._check_consumers(0), pgq._check_rotation(0)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return query
        select c.*
          from (select * from pgq._check_functions()
                union all select * from pgq._check_triggers()
                union all select * from pgq._check_queues()
                union all select * from pgq._check_consumers()
                union all select * from pgq._check_rotation()) c
         order by c.severity, c.area, c.object, c.problem;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pg_temp;
