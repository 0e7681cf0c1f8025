#!/usr/bin/env bash
# Times training in float32 (TF32 where the GPU has it) on 8 GPUs: 200 steps of warm-up, then 800 counted.
# Usage: unet_TRAIN_BENCHMARK_8GPU.sh DATA RESULTS BATCH_SIZE [more flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
data=${1:?folder with the stacks} results=${2:?folder for the results} batch=${3:?images per step and GPU}
exec "$unet" --data_dir "$data" --model_dir "$results" --exec_mode train --augment --benchmark \
  --warmup_steps 200 --max_steps 1000 --batch_size "$batch" --xla --nproc_per_node 8 "${@:4}"
