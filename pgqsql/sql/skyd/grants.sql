grant usage on schema skyd to public;
grant select on skyd.schema_file, skyd.schema_function to public;
