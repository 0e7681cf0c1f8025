#!/usr/bin/env bash
# Tries the packages of scripts/package.sh in bare containers of Debian 12 and 13, without Rust and without a compiler:
# install, make a synthetic dataset, train, predict. Prints the seconds of each step.
# Needs root, debootstrap and a container engine. The wheel's torch is fetched by pip in each container, about 3 GB.
# Usage: scripts/check/prove_packages.sh [bookworm] [trixie]    (default: both)
#   WHEELS=DIR   wheels for pip in place of an index (pip download torch==2.11.0, for each Python: 3.11 and 3.13)
#   DOCKER=...   another engine
set -euo pipefail
cd "$(dirname "$0")/../.."
docker=${DOCKER:-docker} container=unet-packages-$$
[[ $# -gt 0 ]] || set -- bookworm trixie
shopt -s nullglob
wheel=(dist/unet_segmentation-*.whl) tarball=(dist/unet-*-x86_64-linux-cpu.tar.gz)
if ((${#wheel[@]} != 1 || ${#tarball[@]} != 1)); then
  echo "prove_packages: one wheel and one tarball are wanted in dist; make them (scripts/package.sh)" >&2
  exit 1
fi

# shellcheck disable=SC2329 # Called by trap.
clean_up() {
  "$docker" rm --force "$container" >/dev/null 2>&1 || true
  "$docker" image rm unet-bare-{bookworm,trixie} >/dev/null 2>&1 || true
}
trap clean_up EXIT

# step NAME SCRIPT: runs it in the container and prints its seconds. The last lines of its output come with a failure.
step() {
  local begin=${EPOCHREALTIME/./} output
  output=$("$docker" exec --workdir /root "$container" sh -ec "$2" 2>&1) || {
    tail -n 20 <<<"$output" >&2
    echo "prove_packages: FAILED: $suite: $1" >&2
    exit 1
  }
  printf '%-9s %-42s %6d.%d s\n' "$suite" "$1" $(((${EPOCHREALTIME/./} - begin) / 1000000)) \
    $(((${EPOCHREALTIME/./} - begin) / 100000 % 10))
}

# use NAME UNET: what a newcomer does first.
use() {
  step "$1: version" "$2 --version | grep '^unet '"
  step "$1: phantom" "rm -rf data results && $2 phantom --out data --slices 10 --size 256"
  step "$1: train" "$2 --data_dir data --model_dir results --exec_mode train_and_evaluate --crossvalidation_idx 0 \
    --base_filters 8 --batch_size 2 --max_steps 20 --augment && test -s results/eval.json"
  step "$1: predict" "$2 --data_dir data --model_dir results --exec_mode predict && test -s results/pred/test-masks.tif"
  step "$1: two processes" "$2 --data_dir data --model_dir results --overwrite --base_filters 2 --max_steps 4 \
    --nproc_per_node 2"
}

pip=()
[[ -z ${WHEELS:-} ]] || pip=(-v "$(realpath "$WHEELS"):/wheels:ro" -e PIP_NO_INDEX=1 -e PIP_FIND_LINKS=/wheels)
for suite in "$@"; do
  scripts/docker/import_debian.sh "$suite" "unet-bare-$suite"
  # GOMP_SPINCOUNT: where the machine does other work, waiting threads would take the cores from it.
  "$docker" run --detach --name "$container" --network host -e GOMP_SPINCOUNT=0 -v "$PWD/dist:/dist:ro" "${pip[@]}" \
    "unet-bare-$suite" sleep infinity >/dev/null
  step "no compiler, no Rust" "! command -v cc && ! command -v cargo"
  step "tarball: unpack" "tar -xf /dist/${tarball[0]##*/}"
  use tarball "./$(basename "${tarball[0]}" .tar.gz)/bin/unet"
  step "wheel: Python from Debian" \
    "apt-get update -q && apt-get install -qy --no-install-recommends python3-venv && python3 -m venv venv"
  step "wheel: pip install, with torch" "venv/bin/pip install --no-cache-dir /dist/${wheel[0]##*/}"
  use wheel venv/bin/unet
  step "wheel: man page and completions" \
    "test -s venv/share/man/man1/unet.1 && test -s venv/share/bash-completion/completions/unet"
  # A virtual environment that sees the torch of another.
  step "wheel: torch in another environment" "python3 -m venv above
    above/bin/pip install --no-deps /dist/${wheel[0]##*/}
    site=\$(echo above/lib/python3.*/site-packages)
    echo \$PWD/venv/lib/python3.*/site-packages >\$site/below.pth
    above/bin/unet inspect --data_dir data"
  step "wheel: an environment without torch" "rm above/lib/python3.*/site-packages/below.pth
    above/bin/unet --version 2>&1 | grep 'error: no package .torch.'"
  "$docker" rm --force "$container" >/dev/null
done
echo "prove_packages: passed"
