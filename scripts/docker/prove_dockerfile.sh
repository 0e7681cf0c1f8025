#!/usr/bin/env bash
# Tries the Dockerfile where no container engine runs: executes its lines in chroots, then runs
# scripts/docker/smoke_test.sh on the result. scripts/docker/dockerfile_in_chroot.py lists the differences from Docker;
# above all the base is Debian 12, not NVIDIA's Ubuntu. Needs root, debootstrap, 13 GB of disk below DIR, and 15 minutes
# of 2 cores.
# Usage: scripts/docker/prove_dockerfile.sh [DIR]    (default target/prove; removed at the end unless KEEP=1)
# PROVE_RUST=TOOLCHAIN mounts a Rust toolchain (`rustc --print sysroot`) where rustup's server cannot be reached.
set -euo pipefail
cd "$(dirname "$0")/../.."

die() {
  echo "prove_dockerfile: $*" >&2
  exit 1
}

[[ $(id -u) == 0 ]] || die "chroot and debootstrap need root; run it with sudo"
command -v debootstrap >/dev/null || die "no debootstrap; install it (apt-get install debootstrap)"
PROVE_DIR=$(realpath -m "${1:-target/prove}")
export PROVE_DIR
[[ ! -e $PROVE_DIR ]] || die "'$PROVE_DIR' is there already; remove it or name another"
mkdir -p "$PROVE_DIR"
[[ -n ${KEEP:-} ]] || trap 'rm -rf --one-file-system "$PROVE_DIR"' EXIT
echo "prove: making a Debian 12 tree"
debootstrap --variant=minbase bookworm "$PROVE_DIR/base" >"$PROVE_DIR/debootstrap.log" || {
  tail "$PROVE_DIR/debootstrap.log" >&2
  exit 1
}
rm -rf "$PROVE_DIR"/base/var/cache/apt/archives/*.deb
printf '#!/bin/sh\nexec python3 "%s/scripts/docker/dockerfile_in_chroot.py" "$@"\n' "$PWD" >"$PROVE_DIR/docker"
chmod +x "$PROVE_DIR/docker"
DOCKER=$PROVE_DIR/docker scripts/docker/smoke_test.sh "${@:2}"
