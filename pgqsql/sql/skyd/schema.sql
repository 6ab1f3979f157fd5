create schema if not exists skyd;

comment on schema skyd is 'what skyd installed in this database';

do $$
begin
    if not exists (select 1 from pg_catalog.pg_namespace where nspname = 'skyd_gen') then
        create schema skyd_gen;
    end if;
end
$$;

comment on schema skyd_gen is 'code that skyd writes for the objects of this database; made anew at will';
