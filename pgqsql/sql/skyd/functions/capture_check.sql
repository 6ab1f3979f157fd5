create or replace function skyd.capture_check(i_table oid, i_row anyelement)
returns void as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_check(2)
    --
    --     Refuses a repeatable read or serializable writer whose snapshot is
    --     older than a change of the table: it reads the catalogs as they were
    --     and would give the values wrong names. The server's own caches are
    --     always new, so the two are compared. In read committed each look at
    --     the catalogs is new, and the lock that the writer holds on the table
    --     keeps changes by others away.
    --
    -- Parameters:
    --     i_table - table
    --     i_row   - a row of it; null: do not look at types
    --
    -- Returns:
    --     nothing
    --
    -- Raises:
    --     40001; the client repeats the transaction
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
declare
    v_same  boolean;
    v_types text;
begin
    if current_setting('transaction_isolation') not in ('repeatable read', 'serializable') then
        return;
    end if;
    select bool_and(s.now is not distinct from s.seen)
               and (pg_identify_object_as_address('pg_class'::regclass, i_table, max(s.attnum) + 1)).object_names is null,
           string_agg(format('pg_catalog.pg_typeof(($1).%I)::pg_catalog.oid operator(pg_catalog.=) %s', s.attname, s.atttypid), ' and ')
               filter (where not s.attisdropped)
      into v_same, v_types
      from (select a.attnum, a.attname, a.atttypid, a.attisdropped,
                   array[n.nspname, r.relname, a.attname]::text[] as seen,
                   (pg_identify_object_as_address('pg_class'::regclass, i_table, a.attnum)).object_names as now
              from pg_attribute a
              join pg_class r on r.oid = a.attrelid
              join pg_namespace n on n.oid = r.relnamespace
             where a.attrelid = i_table
               and a.attnum > 0) s;
    if v_same and num_nulls(i_row) = 0 then
        execute 'select ' || coalesce(v_types, 'true') into v_same using i_row;
    end if;
    v_same := v_same and not exists (
        select from pg_index i
         where i.indrelid = i_table and i.indisprimary and pg_get_indexdef(i.indexrelid) is null);
    v_same := v_same and (
        select r.relreplident <> 'd'
               or pg_get_replica_identity_index(i_table)::oid is not distinct from
                  (select i.indexrelid from pg_index i where i.indrelid = i_table and i.indisprimary)
          from pg_class r where r.oid = i_table);
    if v_same is not true then
        raise exception 'table % changed after the snapshot of this transaction', i_table::regclass
            using errcode = 'serialization_failure', hint = 'Repeat the transaction.';
    end if;
end;
$$ language plpgsql volatile set search_path = pg_catalog, skyd, pg_temp;
