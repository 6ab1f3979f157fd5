create table skyd.schema_file (
    schema_name     text        not null,
    path            text        not null,
    sha256          text        not null,
    skyd_version    text        not null,
    applied_at      timestamptz not null default now(),
    primary key (schema_name, path)
);

comment on table skyd.schema_file is 'SQL files applied in this database, with the hash of their content';

create table skyd.schema_function (
    schema_name     text        not null,
    signature       text        not null,
    path            text        not null,
    fingerprint     text        not null,
    primary key (schema_name, signature)
);

comment on table skyd.schema_function is 'functions as they stood in the catalog after their file was applied';
