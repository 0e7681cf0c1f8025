#!/usr/bin/env bash
# Times unet against PyTorch (eager and torch.compile) and, for prediction on the CPU, OpenVINO, interleaved.
# Usage: scripts/bench/peers.sh DATA_DIR [options of scripts/bench/peers.py]    (--help lists them)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
"$root/scripts/setup/libtorch.sh"
peers=$root/.libtorch/peers
export PYTHONPATH=$root/.libtorch/site-packages:$peers${PYTHONPATH:+:$PYTHONPATH}
# OpenVINO beside the packages of libtorch.sh, not among them: only this comparison needs it.
if ! python3 -c 'import openvino' 2>/dev/null; then
  python3 -m pip install --quiet --no-compile --no-deps --target "$peers" openvino openvino-telemetry packaging
fi
cargo build --release --locked --manifest-path "$root/Cargo.toml"
exec python3 "$root/scripts/bench/peers.py" --unet "${UNET:-$root/target/release/unet}" --data_dir "$@"
