#!/bin/sh
# Installs what the tests compare with and build from, on Debian: the original
# PgQ (C extension, ticker, Python client), Londiste in Python, plpgsql_check,
# zstd, PgBouncer, a compiler, mmdebstrap and Docker.
# Packages that are there stay as they are; no cluster is started or changed.
set -eu
export DEBIAN_FRONTEND=noninteractive
updated=
need() {
    missing=
    for p in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || missing="$missing $p"
    done
    [ -n "$missing" ] || return 0
    [ -n "$updated" ] || apt-get update -q || echo "ci-packages.sh: apt-get update: some index failed, going on" >&2
    updated=1
    echo "ci-packages.sh: installing$missing"
    # shellcheck disable=SC2086 # a list of words
    apt-get install -q -y --no-install-recommends $missing
}

need ca-certificates git
scripts/need.sh server compiler
# The extension must match the server that tests find, which is not always
# the newest one here.
initdb=$(command -v initdb || ls -d /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)
major=$("$(dirname "$(readlink -f "$initdb")")"/postgres --version | sed -E 's/.*\(PostgreSQL\) ([0-9]+).*/\1/')
need "postgresql-$major-pgq3" "postgresql-$major-pgq-node" "postgresql-$major-londiste-sql" \
    "postgresql-$major-plpgsql-check" zstd pgqd python3-pgq python3-londiste python3-psycopg2 mmdebstrap pgbouncer
