#!/usr/bin/env bash
# Trains the same small network with unet and with plain PyTorch (scripts/bench/pytorch_peer.py) on one fold with two
# seeds, and prints the mean validation Dice of each.
# Usage: scripts/bench/compare_with_pytorch.sh DATA_DIR OUT_DIR [MAX_STEPS]   (about an hour on 2 CPU cores)
set -euo pipefail
data=${1:?folder with the stacks} out=${2:?folder for the runs} steps=${3:-600}
root=$(cd "$(dirname "$0")/../.." && pwd)
unet=${UNET:-$root/target/release/unet}
export PYTHONPATH=$root/.libtorch/site-packages${PYTHONPATH:+:$PYTHONPATH}
recipe=(--data_dir "$data" --crossvalidation_idx 0 --augment --base_filters 16 --batch_size 2 --max_steps "$steps")
mkdir -p "$out"
for seed in 0 1; do
  # A finished run is not repeated, so an interrupted comparison continues where it stopped.
  if ! grep -qs eval_dice_score "$out/unet-$seed.log"; then
    "$unet" "${recipe[@]}" --seed "$seed" --exec_mode train_and_evaluate --model_dir "$out/unet-$seed" --overwrite |
      tee "$out/unet-$seed.log"
  fi
  if ! grep -qs eval_dice_score "$out/pytorch-$seed.log"; then
    python3 "$root/scripts/bench/pytorch_peer.py" train "${recipe[@]}" --seed "$seed" | tee "$out/pytorch-$seed.log"
  fi
done
echo "unet:"
"$unet" report "$out"/unet-{0,1}.log
echo "PyTorch:"
"$unet" report "$out"/pytorch-{0,1}.log
