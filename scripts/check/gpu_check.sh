#!/usr/bin/env bash
# Checks unet on a machine that has a GPU, a python3 with torch 2.11.0, and no Rust: correctness, accuracy, speed.
# Usage: scripts/check/gpu_check.sh BINARY DATA OUT [options of scripts/check/gpu_check.py]    (--help lists them)
# BINARY was built elsewhere against libtorch 2.11.0 (scripts/check/gpu_pack.sh makes the folder that travels). DATA has
# the three ISBI stacks. OUT keeps finished parts, so that the same command goes on where it ended.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# The library path inside the binary may not exist on this machine, so torch's own folders go first.
packages=$(python3 -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parent.parent)') || {
  echo "python3 has no torch: this script needs PyTorch 2.11.0, whose libraries the program runs on" >&2
  exit 1
}
version=$(python3 -c 'import torch; print(torch.__version__.split("+")[0])')
if [[ $version != 2.11.0 ]]; then
  echo "python3 has torch $version: the program was built against 2.11.0 and runs on no other" >&2
  exit 1
fi
libraries=$packages/torch/lib
for folder in "$packages"/nvidia/*/lib; do
  if [[ -d $folder ]]; then libraries+=:$folder; fi
done
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
# It uses the comparison with PyTorch in scripts/bench.
export PYTHONPATH=$here/../bench${PYTHONPATH:+:$PYTHONPATH}
exec python3 "$here/gpu_check.py" "$@"
