-- What skyd adds to PgQ. It lives in schema pgq under names that PgQ does not
-- use, and leans only on what the PgQ contract promises: so it runs on skyd's
-- own PgQ and beside the original C extension.
do $$
begin
    if to_regclass('pgq.queue') is null then
        raise exception 'there is no PgQ in this database for pgq_plus to add to';
    end if;
end
$$;
