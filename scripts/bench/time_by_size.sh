#!/usr/bin/env bash
# Measures how unet's time per image grows with batch size, number of slices and slice size; makes a plot of it.
# Usage: scripts/bench/time_by_size.sh OUT [options of scripts/bench/time_by_size.py]    (--help lists them)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
"$root/scripts/setup/libtorch.sh"
peers=$root/.libtorch/peers
export PYTHONPATH=$root/.libtorch/site-packages:$peers${PYTHONPATH:+:$PYTHONPATH}
# Beside the packages of libtorch.sh, not among them: only this script draws with it.
if ! python3 -c 'import matplotlib' 2>/dev/null; then
  python3 -m pip install --quiet --no-compile --target "$peers" matplotlib
fi
cargo build --release --locked --manifest-path "$root/Cargo.toml"
exec python3 "$root/scripts/bench/time_by_size.py" --unet "${UNET:-$root/target/release/unet}" --out "$@"
