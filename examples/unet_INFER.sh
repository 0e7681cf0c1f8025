#!/usr/bin/env bash
# Predicts the test stack in float32 (TF32 where the GPU has it) from the weights in RESULTS.
# Usage: unet_INFER.sh DATA RESULTS BATCH_SIZE [more flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
data=${1:?folder with the stacks} results=${2:?folder for the results} batch=${3:?images per step and GPU}
exec "$unet" --data_dir "$data" --model_dir "$results" --exec_mode predict --batch_size "$batch" --xla "${@:4}"
