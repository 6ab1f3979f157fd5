#!/usr/bin/env bash
# Runs the tests of the SQL and of the client on the other major versions of
# PostgreSQL, each in a container, and inside of it those of the WAL archive
# and of cascades that servers of another version could answer differently.
# Tests that need the original C extension are skipped there; they have their
# turn on the machine's own server. So have the longest ones, which say nothing
# about versions.
set -euo pipefail
cd "$(dirname "$0")/.."
unset SKYD_TEST_REQUIRE

long='TestTakeover|TestHarden|TestStress|TestContract_AsTheOriginal|TestCapture_AsTheOriginal|TestPartitioned_Storm|TestBundle|TestPooler'
archive='TestTakeBackup|TestRestore|TestStandby|TestDisaster|TestReceiv'
cascade='TestFailover|TestTakeover|TestMergeLeaf|TestSyncWatermark'
[ $# -gt 0 ] || set -- 17 18

programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT
for package in walarchive cascade; do
    CGO_ENABLED=0 go test -c -o "$programs/$package" "./$package"
done
chmod -R go+rX "$programs"

# inside MAJOR PACKAGE TESTS runs tests where the server's programs are; the
# tests start servers of their own.
inside() {
    docker run --rm --name "skyd-majors-$1-$2-$$" --tmpfs /tmp:exec,mode=1777,size=6g -v "$PWD:/repo:ro" -v "$programs:/programs:ro" \
        -w "/repo/$2" -e "PATH=/usr/lib/postgresql/$1/bin:/usr/bin:/bin" -e SKYD_TEST_REQUIRE=1 \
        --entrypoint "/programs/$2" "skyd-postgres:$1" -test.short -test.run "$3"
}

for major in "$@"; do
    e2e/image/build.sh "$major"
    name=skyd-majors-$major-$$
    docker run -d --rm --name "$name" --shm-size 4g -e PGDATA=/dev/shm/data -p 127.0.0.1::5432 "skyd-postgres:$major" >/dev/null
    trap 'docker stop "$name" >/dev/null; rm -rf "$programs"' EXIT
    address=$(docker port "$name" 5432/tcp | head -1)
    until docker exec "$name" psql -h 127.0.0.1 -U postgres -qc 'select' >/dev/null 2>&1; do sleep 0.2; done
    # nothing here has to survive the machine
    docker exec "$name" psql -h 127.0.0.1 -U postgres -qAt -c 'alter system set fsync = off' \
        -c 'alter system set full_page_writes = off' -c 'select pg_reload_conf()' >/dev/null
    echo "PostgreSQL $major:"
    # the client once is enough
    packages=./pgqsql
    [ "$major" != "${*: -1}" ] || packages="./pgqsql ./pgq"
    # one package at a time: transaction ids belong to the server
    SKYD_TEST_DSN="postgres://postgres@$address/postgres?sslmode=disable" go test -p 1 -count=1 -short -skip "$long" $packages
    docker stop "$name" >/dev/null
    trap 'rm -rf "$programs"' EXIT
    inside "$major" walarchive "$archive"
    inside "$major" cascade "$cascade"
done
