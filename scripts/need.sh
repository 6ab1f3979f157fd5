#!/bin/sh
# Makes sure that this machine has what is named: server (PostgreSQL's
# programs), server-or-docker, compiler (C, for the race detector). What is
# missing is installed with the machine's package manager.
set -eu

have_server() {
    [ -n "${SKYD_PG_BIN:-}" ] && return
    command -v initdb >/dev/null && return
    for f in /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb /usr/libexec/postgresql*/initdb \
        /opt/homebrew/opt/postgresql*/bin/initdb /usr/local/opt/postgresql*/bin/initdb \
        /Applications/Postgres.app/Contents/Versions/*/bin/initdb; do
        [ -x "$f" ] && return
    done
    return 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "need.sh: installing needs root or sudo; run as root: $*" >&2
        return 1
    fi
}

updated=
apt() {
    # an index that is only partly new is no reason to stop
    [ -n "$updated" ] || as_root apt-get update -q >&2 || true
    updated=1
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >&2
}

install() { # install WHAT
    echo "need.sh: no $1 on this machine, installing it" >&2
    if command -v apt-get >/dev/null; then
        case $1 in server) apt postgresql ;; compiler) apt gcc libc6-dev ;; esac
    elif command -v dnf >/dev/null; then
        case $1 in server) as_root dnf install -y postgresql-server postgresql-contrib >&2 ;; compiler) as_root dnf install -y gcc >&2 ;; esac
    elif command -v apk >/dev/null; then
        case $1 in server) as_root apk add postgresql postgresql-contrib >&2 ;; compiler) as_root apk add gcc musl-dev >&2 ;; esac
    elif command -v brew >/dev/null; then
        case $1 in server) brew install postgresql@17 >&2 ;; compiler) xcode-select --install >&2 ;; esac
    else
        echo "need.sh: no apt-get, dnf, apk or brew here; install the $1 by hand" >&2
        return 1
    fi
}

for what in "$@"; do
    case $what in
    server) have_server || install server ;;
    server-or-docker)
        [ -n "${SKYD_TEST_DSN:-}" ] || have_server || docker info >/dev/null 2>&1 || install server
        ;;
    compiler) command -v "$(go env CC)" >/dev/null || install compiler ;;
    *)
        echo "need.sh: unknown need $what" >&2
        exit 2
        ;;
    esac
done
