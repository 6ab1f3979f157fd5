#!/bin/sh
# Entry point of the skyd-postgres images: makes the data directory at the
# first start and runs the server, with the arguments after "postgres".
# Everybody may connect as anybody: these images are for tests.
set -eu
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb -D "$PGDATA" -U postgres -A trust -E UTF8 --locale=C --no-sync --no-instructions >/dev/null
    echo 'host all all all trust' >>"$PGDATA/pg_hba.conf"
fi
[ "${1:-postgres}" != postgres ] || shift
exec postgres -D "$PGDATA" -c 'listen_addresses=*' -c unix_socket_directories=/tmp -c timezone=UTC "$@"
