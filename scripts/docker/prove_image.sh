#!/usr/bin/env bash
# Builds the image where no registry of images can be reached, and tries it. The images that the Dockerfile names are
# made here: a Debian tree (debootstrap) in place of NVIDIA's Ubuntu, and this machine's Rust toolchain in place of the
# image with Rust. Then scripts/docker/smoke_test.sh and two_containers_test.sh run.
# Needs root, debootstrap, a container engine, 30 GB of disk, and half an hour of 2 cores.
# Usage: scripts/docker/prove_image.sh [options of docker build]
#   SUITE=trixie   Debian's release in place of Ubuntu
#   WHEELS=DIR     wheels for pip in place of an index (pip download torch==2.11.0 and the nvidia-* of requirements.txt)
#   KEEP=1         keeps the images: unet-smoke-test, unet-prove-build, unet-prove-base and unet-prove-rust
set -euo pipefail
cd "$(dirname "$0")/../.."
docker=${DOCKER:-docker} suite=${SUITE:-trixie}

"$docker" info >/dev/null || {
  echo "prove_image: no container engine answers; start one, or name it (DOCKER=podman)" >&2
  exit 1
}
work=$(mktemp -d)
server=
# shellcheck disable=SC2329 # Called by trap.
clean_up() {
  [[ -z $server ]] || kill "$server"
  rm -rf "$work"
  [[ -n ${KEEP:-} ]] || "$docker" image rm unet-{smoke-test,prove-build,prove-base,prove-rust} >/dev/null 2>&1 || true
}
trap clean_up EXIT

pip=()
if [[ -n ${WHEELS:-} ]]; then
  port=$((20000 + $$ % 10000))
  python3 -m http.server --bind 127.0.0.1 --directory "$WHEELS" "$port" >"$work/server.log" 2>&1 &
  server=$!
  pip=(--change "ENV PIP_NO_INDEX=1" --change "ENV PIP_FIND_LINKS=http://127.0.0.1:$port/")
fi
echo "prove_image: making a tree of Debian $suite in place of BASE"
scripts/docker/import_debian.sh "$suite" unet-prove-base "${pip[@]}"

echo "prove_image: packing $(rustc --version) in place of RUST_IMAGE"
toolchain=usr/local/rustup/toolchains/here
mkdir -p "$work/rust/usr/local/cargo/bin" "$work/rust/$toolchain"
tar -C "$(rustc --print sysroot)" --exclude=./share/doc/rust/html --exclude=./share/doc/docs -c . |
  tar -C "$work/rust/$toolchain" -x
for program in cargo rustc; do
  ln -s "/$toolchain/bin/$program" "$work/rust/usr/local/cargo/bin/$program"
done
tar -C "$work/rust" -c . | "$docker" import - unet-prove-rust >/dev/null
rm -rf "$work/rust"

# The network of this machine, with its resolver. The first stage gets a name, so that it can be removed at the end.
build=(--network host --build-arg BASE=unet-prove-base --build-arg RUST_IMAGE=unet-prove-rust "$@")
"$docker" build --target build -t unet-prove-build "${build[@]}" .
echo "prove_image: built after $SECONDS s"
IMAGE=unet-smoke-test scripts/docker/smoke_test.sh "${build[@]}"
scripts/docker/two_containers_test.sh unet-smoke-test
"$docker" image ls --filter reference='unet-*'
echo "prove_image: passed after $SECONDS s"
