#!/usr/bin/env bash
# Five-fold cross-validation in mixed precision on 8 GPUs: 6,400 batches a fold, then the mean Dice.
# Usage: unet_TRAIN_AMP_8GPU.sh DATA RESULTS BATCH_SIZE [more flags]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
data=${1:?folder with the stacks} results=${2:?folder for the results} batch=${3:?images per step and GPU}
five_folds AMP_8GPU "$data" "$results" --batch_size "$batch" --amp --nproc_per_node 8 "${@:4}"
