#!/usr/bin/env bash
# Five-fold cross-validation in float32 (TF32 where the GPU has it) on 8 GPUs: 6,400 batches a fold, then the mean Dice.
# Usage: unet_TRAIN_8GPU.sh DATA RESULTS BATCH_SIZE [more flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
data=${1:?folder with the stacks} results=${2:?folder for the results} batch=${3:?images per step and GPU}
five_folds FP32_8GPU "$data" "$results" --batch_size "$batch" --nproc_per_node 8 "${@:4}"
