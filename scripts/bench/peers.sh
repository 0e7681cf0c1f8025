#!/usr/bin/env bash
# Times unet and its peers in turn: PyTorch (eager and torch.compile) and, for prediction on the CPU, OpenVINO.
# Usage: scripts/bench/peers.sh DATA_DIR [options of scripts/bench/peers.py]    (--help lists them)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
"$root/scripts/setup/libtorch.sh"
peers=$root/.libtorch/peers
export PYTHONPATH=$root/.libtorch/site-packages:$peers${PYTHONPATH:+:$PYTHONPATH}
# OpenVINO gets a folder of its own: only this script needs it, and libtorch.sh replaces its own folder as a whole.
if ! python3 -c 'import openvino' 2>/dev/null; then
  python3 -m pip install --quiet --no-compile --no-deps --target "$peers" openvino openvino-telemetry packaging
fi
cargo build --release --locked --manifest-path "$root/Cargo.toml"
exec python3 "$root/scripts/bench/peers.py" --unet "${UNET:-$root/target/release/unet}" --data_dir "$@"
