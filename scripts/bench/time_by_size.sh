#!/usr/bin/env bash
# Measures and plots unet's time per image by batch size, by number of slices and by slice size.
# Usage: scripts/bench/time_by_size.sh OUT [options of scripts/bench/time_by_size.py]    (--help lists them)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
"$root/scripts/setup/libtorch.sh"
peers=$root/.libtorch/peers
export PYTHONPATH=$root/.libtorch/site-packages:$peers${PYTHONPATH:+:$PYTHONPATH}
# matplotlib gets a folder of its own: only this script needs it, and libtorch.sh replaces its own folder as a whole.
if ! python3 -c 'import matplotlib' 2>/dev/null; then
  python3 -m pip install --quiet --no-compile --target "$peers" matplotlib
fi
cargo build --release --locked --manifest-path "$root/Cargo.toml"
exec python3 "$root/scripts/bench/time_by_size.py" --unet "${UNET:-$root/target/release/unet}" --out "$@"
