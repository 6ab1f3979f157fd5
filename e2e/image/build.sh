#!/usr/bin/env bash
# Builds the image skyd-postgres:MAJOR from the packages of the Debian release
# that carries this major version of PostgreSQL, without any registry. Does
# nothing if the image is there and was built by this very script. The mirror
# is the one this machine's apt uses.
set -euo pipefail

major=${1:?usage: build.sh MAJOR}
here=$(cd "$(dirname "$0")" && pwd)
image=skyd-postgres:$major

case $major in
15) suite=bookworm ;;
17) suite=trixie ;;
18) suite=forky ;;
*)
    echo "build.sh: no Debian release is known to carry PostgreSQL $major (15, 17 and 18 are)" >&2
    exit 2
    ;;
esac

recipe=$(cat "$here/build.sh" "$here/entrypoint.sh" | sha256sum | cut -c 1-12)
built() { [ "$(docker image inspect -f '{{index .Config.Labels "skyd.recipe"}}' "$image" 2>/dev/null)" = "$recipe" ]; }

built && exit 0
# Builds of one image wait for each other; the second finds it done.
exec 9>"${TMPDIR:-/tmp}/skyd-postgres-$major.lock"
flock 9
built && exit 0

mirror=$(apt-get indextargets --format '$(SITE) $(COMPONENT)' 'Identifier: Packages' | grep -v security | awk '$2 == "main" { print $1; exit }')
if [ -z "$mirror" ]; then
    echo "build.sh: $image: this machine's apt sources name no Debian mirror with the component main" >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "build.sh: building $image from Debian $suite" >&2
mode=auto
[ "$(id -u)" -ne 0 ] || mode=root
# A frozen mirror's testing suite is past its date.
if ! mmdebstrap --quiet --mode=$mode --variant=minbase \
    --include="postgresql-$major,postgresql-client-$major" \
    --aptopt='Acquire::Check-Valid-Until "false"' \
    --aptopt='Acquire::Retries "3"' \
    --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='force-unsafe-io' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --essential-hook='mkdir -p "$1/etc/postgresql-common/createcluster.d"' \
    --essential-hook='echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.d/image.conf"' \
    --customize-hook="install -m 755 '$here/entrypoint.sh' \"\$1/usr/local/bin/docker-entrypoint.sh\"" \
    --customize-hook='chroot "$1" install -d -o postgres -g postgres -m 700 /var/lib/postgresql/data' \
    "$suite" "$work/image.tar" "deb $mirror $suite main" >"$work/log" 2>&1; then
    tail -n 25 "$work/log" >&2
    echo "build.sh: cannot build $image: package postgresql-$major of Debian $suite could not be installed from this machine's apt mirror (end of the log above)" >&2
    exit 1
fi
old=$(docker image inspect -f '{{.Id}}' "$image" 2>/dev/null || true)
docker import \
    --change 'USER postgres' \
    --change 'ENV PGDATA=/var/lib/postgresql/data LC_ALL=C.UTF-8' \
    --change 'EXPOSE 5432' \
    --change 'ENTRYPOINT ["docker-entrypoint.sh"]' \
    --change 'CMD ["postgres"]' \
    --change "LABEL skyd.recipe=$recipe" \
    "$work/image.tar" "$image" >/dev/null
# Not while a container of it runs; then it stays until it is pruned.
[ -z "$old" ] || docker image rm "$old" >/dev/null 2>&1 || true
