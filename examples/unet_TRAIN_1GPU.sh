#!/usr/bin/env bash
# Five-fold cross-validation in float32 (TF32 where the GPU has it) on 1 GPU: 6,400 batches a fold, then the mean Dice.
# Usage: unet_TRAIN_1GPU.sh DATA RESULTS BATCH_SIZE [more flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
data=${1:?folder with the stacks} results=${2:?folder for the results} batch=${3:?images per step and GPU}
five_folds FP32_1GPU "$data" "$results" --batch_size "$batch" "${@:4}"
