#!/usr/bin/env bash
# Training in mixed precision on 2 machines, started on each of them by torchrun: fold 0.
# Usage, on the first machine (whose address is FIRST):  torchrun_2nodes.sh 0 FIRST DATA RESULTS BATCH_SIZE [more flags]
#        on the second:                                  torchrun_2nodes.sh 1 FIRST DATA RESULTS BATCH_SIZE [more flags]
# Processes per machine: NPROC_PER_NODE, by default 8.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
node=${1:?0 or 1} first=${2:?address of the first machine}
data=${3:?folder with the stacks} results=${4:?folder for the results} batch=${5:?images per step and GPU}
exec torchrun --no-python --nnodes 2 --node_rank "$node" --master_addr "$first" --master_port "${MASTER_PORT:-29500}" \
  --nproc_per_node "${NPROC_PER_NODE:-8}" "$unet" --data_dir "$data" --model_dir "$results" \
  --exec_mode train_and_evaluate --crossvalidation_idx 0 --augment --max_steps 6400 --batch_size "$batch" --amp "${@:6}"
