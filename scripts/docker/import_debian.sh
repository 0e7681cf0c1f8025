#!/usr/bin/env bash
# Makes an image of a bare Debian (debootstrap), for machines that reach no registry of images. The network may have a
# certificate authority of its own, so the image has this machine's certificates, for pip and cargo.
# Needs root and debootstrap. DOCKER names another engine.
# Usage: scripts/docker/import_debian.sh SUITE IMAGE [options of docker import]
set -euo pipefail
suite=${1:?release of Debian} image=${2:?name}

die() {
  echo "import_debian: $*" >&2
  exit 1
}

[[ $(id -u) == 0 ]] || die "debootstrap needs root; run it with sudo"
command -v debootstrap >/dev/null || die "no debootstrap; install it (apt-get install debootstrap)"
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
debootstrap --variant=minbase "$suite" "$work/tree" >"$work/log" || {
  tail "$work/log" >&2
  die "debootstrap failed"
}
rm -rf "$work"/tree/var/cache/apt/archives/*.deb
certificates=/usr/local/share/host-certificates.crt
cp -L /etc/ssl/certs/ca-certificates.crt "$work/tree$certificates"
changes=()
for name in SSL_CERT_FILE PIP_CERT CARGO_HTTP_CAINFO; do
  changes+=(--change "ENV $name=$certificates")
done
tar -C "$work/tree" --one-file-system -c . | "${DOCKER:-docker}" import "${changes[@]}" "${@:3}" - "$image" >/dev/null
