#!/usr/bin/env bash
# Measures how unet's time per image grows with batch size, number of slices and slice size; makes a plot of it.
# Usage: scripts/bench_growth.sh OUT [options of scripts/bench_growth.py]    (--help lists them)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/scripts/setup.sh"
peers=$root/.libtorch/peers
export PYTHONPATH=$root/.libtorch/site-packages:$peers${PYTHONPATH:+:$PYTHONPATH}
# Beside the packages of setup.sh, not among them: only this script draws with it.
if ! python3 -c 'import matplotlib' 2>/dev/null; then
  python3 -m pip install --quiet --no-compile --target "$peers" matplotlib
fi
cargo build --release --locked --manifest-path "$root/Cargo.toml"
exec python3 "$root/scripts/bench_growth.py" --unet "${UNET:-$root/target/release/unet}" --out "$@"
