#!/usr/bin/env bash
# Weak scaling of training on the CPU, one thread per process: unet beside PyTorch's DistributedDataParallel.
# Usage: scripts/bench_scaling.sh DATA_DIR [options of scripts/bench_scaling.py]    (--help lists them)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/scripts/setup.sh"
export PYTHONPATH=$root/.libtorch/site-packages${PYTHONPATH:+:$PYTHONPATH}
cargo build --release --locked --manifest-path "$root/Cargo.toml"
exec python3 "$root/scripts/bench_scaling.py" --unet "${UNET:-$root/target/release/unet}" --data_dir "$@"
