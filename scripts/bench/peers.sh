#!/usr/bin/env bash
# Times unet and its peers in turn: PyTorch (eager and torch.compile) and, for prediction on the CPU, OpenVINO.
# Usage: scripts/bench/peers.sh DATA_DIR [options of scripts/bench/peers.py]    (--help lists them)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
"$root/scripts/setup/libtorch.sh"
"$root/scripts/setup/openvino.sh"
export PYTHONPATH=$root/.libtorch/site-packages:$root/.libtorch/openvino${PYTHONPATH:+:$PYTHONPATH}
cargo build --release --locked --manifest-path "$root/Cargo.toml"
exec python3 "$root/scripts/bench/peers.py" --unet "${UNET:-$root/target/release/unet}" --data_dir "$@"
