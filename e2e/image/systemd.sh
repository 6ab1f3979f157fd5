#!/usr/bin/env bash
# Builds the image skyd-systemd: systemd 257 from the packages of Debian trixie, to try the unit in. Does nothing if the
# image is there and was built by this very script. The mirror is the one this machine's apt uses.
set -euo pipefail

recipe=$(sha256sum <"$0" | cut -c 1-12)
[ "$(docker image inspect -f '{{index .Config.Labels "skyd.recipe"}}' skyd-systemd 2>/dev/null)" != "$recipe" ] || exit 0
mirror=$(apt-get indextargets --format '$(SITE) $(COMPONENT)' 'Identifier: Packages' | grep -v security | awk '$2 == "main" { print $1; exit }')
[ -n "$mirror" ] || { echo "systemd.sh: this machine's apt sources name no Debian mirror with the component main" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mode=auto
[ "$(id -u)" -ne 0 ] || mode=root
mmdebstrap --quiet --mode=$mode --variant=minbase --include=systemd \
    --aptopt='Acquire::Check-Valid-Until "false"' \
    --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='force-unsafe-io' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    trixie "$work/image.tar" "deb $mirror trixie main" >"$work/log" 2>&1 || { tail -n 25 "$work/log" >&2; exit 1; }
# A cgroup2 file system of its own, because systemd 257 does not start on the old one that some machines have.
docker import --change "LABEL skyd.recipe=$recipe" --change 'ENV container=docker' \
    --change 'ENTRYPOINT ["/bin/sh", "-c", "umount -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 none /sys/fs/cgroup; exec /lib/systemd/systemd"]' \
    "$work/image.tar" skyd-systemd >/dev/null
