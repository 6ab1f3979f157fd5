create or replace function pgq.upgrade_schema()
returns integer as $$
    -- ----------------------------------------------------------------
    -- Function: pgq.upgrade_schema(0)
    --
    --     Makes roles and columns that an older install does not have. Safe to
    --     repeat. Whole upgrades are done by the installer.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     number of changes made
    --
    -- Raises:
    --     caller may not create roles, or does not own the tables, and
    --     something is missing
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     access exclusive on pgq.queue when a column is missing
    -- ----------------------------------------------------------------
declare
    v_item  record;
    v_count integer := 0;
begin
    for v_item in
        select r.name, r.options
          from (values (1, 'pgq_reader', ''), (2, 'pgq_writer', ''),
                       (3, 'pgq_admin', ' in role pgq_reader, pgq_writer')) r (n, name, options)
         where not exists (select 1 from pg_roles p where p.rolname = r.name)
         order by r.n
    loop
        execute format('create role %I', v_item.name) || v_item.options;
        v_count := v_count + 1;
    end loop;
    for v_item in
        select c.name, c.type
          from (values ('queue_per_tx_limit', 'integer'), ('queue_extra_maint', 'text[]')) c (name, type)
         where not exists (
                   select 1 from pg_attribute a
                    where a.attrelid = 'pgq.queue'::regclass
                      and a.attname = c.name
                      and not a.attisdropped)
    loop
        execute format('alter table pgq.queue add column %I %s', v_item.name, v_item.type);
        v_count := v_count + 1;
    end loop;
    return v_count;
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;
