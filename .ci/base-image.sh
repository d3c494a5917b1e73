#!/usr/bin/env bash
# base-image.sh OUT.tar: debian:bookworm-slim by debuerreotype, the tool that makes Docker's official Debian images, for
# machines that reach Debian's packages but no container registry. Uses the mirrors of this machine's own apt.
set -euo pipefail
out=$(realpath -m "$1")
mapfile -t mirrors < <(awk '/^URIs:/{print $2}' /etc/apt/sources.list.d/debian.sources)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
root=$scratch/rootfs
debuerreotype-init --non-debian "$root" bookworm "${mirrors[0]}"
debuerreotype-minimizing-config "$root"
rm -f "$root/etc/apt/sources.list"
stanza() {
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$1" "$2"
    printf 'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n'
}
{
    stanza "${mirrors[0]}" "bookworm bookworm-updates"
    stanza "${mirrors[1]}" bookworm-security
} >"$root/etc/apt/sources.list.d/debian.sources"
debuerreotype-apt-get "$root" update -qq
debuerreotype-apt-get "$root" dist-upgrade -yqq
rm -rf "$root"/var/lib/apt/lists/*
debuerreotype-slimify "$root"
debuerreotype-tar "$root" "$out"
