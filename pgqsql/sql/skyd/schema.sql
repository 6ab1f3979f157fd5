create schema if not exists skyd;

comment on schema skyd is 'what skyd installed in this database';
