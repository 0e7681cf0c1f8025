#!/usr/bin/env bash
# Runs the experiments of scripts/bench/accuracy.toml that are not done yet, and makes the tables of docs/accuracy.md.
# Usage: scripts/bench/accuracy.sh [options of scripts/bench/accuracy.py]    (--help lists them)
# UNET names the program; without it the program is built.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
if [[ -z ${UNET:-} ]]; then
  "$root/scripts/setup/libtorch.sh"
  cargo build --release --locked --manifest-path "$root/Cargo.toml"
fi
export PYTHONPATH=$root/.libtorch/site-packages${PYTHONPATH:+:$PYTHONPATH}
exec python3 "$root/scripts/bench/accuracy.py" --unet "${UNET:-$root/target/release/unet}" "$@"
