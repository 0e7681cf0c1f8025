#!/usr/bin/env bash
# Weak scaling of training on the CPU, one thread per process: unet beside PyTorch's DistributedDataParallel.
# Usage: scripts/bench/scaling.sh DATA_DIR [options of scripts/bench/scaling.py]    (--help lists them)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
"$root/scripts/setup/libtorch.sh"
export PYTHONPATH=$root/.libtorch/site-packages${PYTHONPATH:+:$PYTHONPATH}
cargo build --release --locked --manifest-path "$root/Cargo.toml"
exec python3 "$root/scripts/bench/scaling.py" --unet "${UNET:-$root/target/release/unet}" --data_dir "$@"
