#!/usr/bin/env bash
# Trains 6,400 batches of 8 in mixed precision on 1 GPU and scores fold 0.
# Usage: unet_AMP_1GPU.sh DATA RESULTS [more flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
data=${1:?folder with the stacks} results=${2:?folder for the results}
exec "$unet" --data_dir "$data" --model_dir "$results" --exec_mode train_and_evaluate --crossvalidation_idx 0 \
  --augment --log_every 100 --max_steps 6400 --batch_size 8 --xla --amp "${@:3}"
