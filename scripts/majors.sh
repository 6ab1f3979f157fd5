#!/usr/bin/env bash
# Runs the tests of the SQL and of the client on the other major versions of
# PostgreSQL, each in a container, and inside of it those of the WAL archive
# that servers of another version could answer differently.
# Tests that need the original C extension are skipped there; they have their
# turn on the machine's own server. So have the longest ones, which say nothing
# about versions.
set -euo pipefail
cd "$(dirname "$0")/.."
unset SKYD_TEST_REQUIRE

long='TestTakeover|TestHarden|TestStress|TestContract_AsTheOriginal|TestCapture_AsTheOriginal|TestPartitioned_Storm|TestBundle|TestPooler|TestStorm|TestCoop_RacesOfOneName|TestCoop_EveryBatchIsClosedOnce|TestRebase_Every|TestCrash'
archive='TestTakeBackup|TestRestore|TestStandby|TestDisaster|TestReceiv'
[ $# -gt 0 ] || set -- 17 18

if [ $# -gt 1 ]; then # side by side: they wait more than they work
    pids=()
    for major in "$@"; do
        "$0" "$major" 2>&1 | sed "s/^/$major: /" &
        pids+=($!)
    done
    failed=0
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    exit "$failed"
fi
major=$1

e2e/image/build.sh "$major"
programs=$(mktemp -d)
name=skyd-majors-$major-$$
trap 'docker rm -f "$name" "$name-wal" >/dev/null 2>&1; rm -rf "$programs"' EXIT
docker run -d --rm --name "$name" --shm-size 4g -e PGDATA=/dev/shm/data -p 127.0.0.1::5432 "skyd-postgres:$major" >/dev/null
address=$(docker port "$name" 5432/tcp | head -1)
until docker exec "$name" psql -h 127.0.0.1 -U postgres -qc 'select' >/dev/null 2>&1; do sleep 0.2; done
# nothing here has to survive the machine
docker exec "$name" psql -h 127.0.0.1 -U postgres -qAt -c 'alter system set fsync = off' \
    -c 'alter system set full_page_writes = off' -c 'select pg_reload_conf()' >/dev/null
packages=./pgqsql
[ "$major" -lt 18 ] || packages="./pgqsql ./pgq" # the client once is enough
# one package at a time: transaction ids belong to the server
SKYD_TEST_DSN="postgres://postgres@$address/postgres?sslmode=disable" go test -p 1 -count=1 -short -skip "$long" $packages

# Where the server's programs are; the tests start servers of their own.
CGO_ENABLED=0 go test -c -o "$programs/walarchive" ./walarchive
chmod -R go+rX "$programs"
docker run --rm --name "$name-wal" --tmpfs /tmp:exec,mode=1777,size=6g -v "$PWD:/repo:ro" -v "$programs:/programs:ro" \
    -w /repo/walarchive -e "PATH=/usr/lib/postgresql/$major/bin:/usr/bin:/bin" -e SKYD_TEST_REQUIRE=1 \
    --entrypoint /programs/walarchive "skyd-postgres:$major" -test.short -test.run "$archive"
