#!/usr/bin/env bash
# Measures and plots unet's time per image by batch size, by number of slices and by slice size.
# Usage: scripts/bench/time_by_size.sh OUT [options of scripts/bench/time_by_size.py]    (--help lists them)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
"$root/scripts/setup/libtorch.sh"
"$root/scripts/setup/matplotlib.sh"
export PYTHONPATH=$root/.libtorch/site-packages:$root/.libtorch/matplotlib${PYTHONPATH:+:$PYTHONPATH}
cargo build --release --locked --manifest-path "$root/Cargo.toml"
exec python3 "$root/scripts/bench/time_by_size.py" --unet "${UNET:-$root/target/release/unet}" --out "$@"
