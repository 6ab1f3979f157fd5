grant usage on schema skyd, skyd_gen to public;
grant select on skyd.schema_file, skyd.schema_function to public;

-- Whoever changes a table calls these; those that write or make something are
-- granted to producers by the schemas that have the roles.
revoke all on function
    skyd.capture_build(oid, text), skyd.capture_route(), skyd.capture_clean()
from public;
