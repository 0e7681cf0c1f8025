#!/usr/bin/env bash
# Sets up and builds the program, then trains a small network, evaluates it, and predicts masks.
# Usage: scripts/quickstart.sh [DATA_DIR]    (default: a synthetic dataset)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
data=${1:-}
[[ -z $data ]] || data=$(realpath "$data")
"$root/scripts/setup/libtorch.sh"
cd "$root"
cargo build --release --locked
unet=target/release/unet

if [[ -z $data ]]; then
  data=results/phantom
  echo "No DATA_DIR given: using a synthetic dataset in $data."
  echo "For the ISBI 2012 stacks: ./scripts/quickstart.sh path/to/folder/with/train-volume.tif"
  [[ -f $data/test-labels.tif ]] || "$unet" phantom --out "$data"
fi

# Each run has a new folder, so that earlier results stay.
model=results/quickstart
for ((n = 2; ; n++)); do
  [[ -e $model ]] || break
  model=results/quickstart-$n
done

# 16 filters, not 64, so that two CPU cores need only minutes.
"$unet" --data_dir "$data" --model_dir "$model" --exec_mode train_and_evaluate --crossvalidation_idx 0 \
  --augment --base_filters 16 --batch_size 2 --max_steps 400 --learning_rate 0.0003 --log_every 50
"$unet" --data_dir "$data" --model_dir "$model" --exec_mode predict

echo
echo "Done. In $model:"
echo "  model.safetensors                 the weights (PyTorch's names)"
echo "  config.json                       settings, versions, data"
echo "  eval.json                         scores of the validation slices"
echo "  learning_curves.png               losses by step"
echo "  eval.png, pred/test-overview.png  some slices with what was found in them"
echo "  report.html                       all of it in a browser: scores, curves, slices"
echo "  pred/test-masks.tif               one mask per test slice, 0 membrane, 255 inside a cell"
echo "  pred/test-probabilities.tif       the same as probabilities, 32-bit"
sed -n 's/.*"eval_dice_score": \([0-9.]*\).*/Validation Dice: \1/p' "$model/eval.json"
