do $$
begin
    -- not "if not exists": that raises a notice on every later install
    if not exists (select 1 from pg_catalog.pg_namespace where nspname = 'pgq_coop') then
        create schema pgq_coop;
    end if;
end
$$;

comment on schema pgq_coop is 'cooperative consumers: several workers behind one consumer (skyd)';
