#!/usr/bin/env bash
# Times prediction in float32 (TF32 where the GPU has it): 200 steps of warm-up, then 400 counted.
# Usage: unet_INFER_BENCHMARK.sh DATA RESULTS BATCH_SIZE [more flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
data=${1:?folder with the stacks} results=${2:?folder for the results} batch=${3:?images per step and GPU}
exec "$unet" --data_dir "$data" --model_dir "$results" --exec_mode predict --benchmark \
  --warmup_steps 200 --max_steps 600 --batch_size "$batch" --xla "${@:4}"
