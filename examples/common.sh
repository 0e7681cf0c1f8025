# shellcheck shell=bash
# Shared by the examples. `unet` is the program to run: $UNET, the one built in this checkout, or the one on the PATH.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
unet=${UNET:-$here/target/release/unet}
[[ -x $unet ]] || unet=$(command -v unet) || {
  echo "no unet found: run 'cargo build --release' in $here, or set UNET" >&2
  exit 1
}

# five_folds NAME DATA RESULTS FLAGS...
# Trains and evaluates each fold in a folder of its own, then reports the mean.
five_folds() {
  local name=$1 data=$2 results=$3 fold logs=()
  shift 3
  mkdir -p "$results"
  for fold in 0 1 2 3 4; do
    logs+=("$results/log_${name}_fold$fold.txt")
    "$unet" --data_dir "$data" --model_dir "$results/fold$fold" --exec_mode train_and_evaluate \
      --crossvalidation_idx "$fold" --augment --log_every 100 --max_steps 6400 --xla "$@" | tee "${logs[-1]}"
  done
  "$unet" report "${logs[@]}" | tee "$results/report_$name.txt"
}
