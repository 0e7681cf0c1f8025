#!/usr/bin/env bash
# Builds the image and tries it on the CPU: command line, synthetic data, a short training and a prediction. Folders are
# mounted, and the user is the image's and then another. With a GPU and NVIDIA's container toolkit it also trains there.
# Usage: scripts/docker/smoke_test.sh [options of docker build]    e.g. --build-arg TORCH=cu126 --build-arg BASE=...
# DOCKER names another engine (podman); IMAGE the image (unet-smoke-test).
set -euo pipefail
cd "$(dirname "$0")/../.."
docker=${DOCKER:-docker} image=${IMAGE:-unet-smoke-test}
work=$(mktemp -d)

check() {
  echo "smoke test: $1"
  shift
  "$@" || {
    echo "smoke test: FAILED: $*" >&2
    exit 1
  }
}
# says WORD COMMAND...: whether the command prints the word. Its exit code does not matter.
says() {
  local word=$1
  shift
  "$@" >"$work/said" 2>&1 || true
  grep -qF -- "$word" "$work/said" || {
    cat "$work/said" >&2
    return 1
  }
}

"$docker" build -t "$image" "$@" .
# GOMP_SPINCOUNT: where the machine does other work, waiting threads would take the cores from it.
run=("$docker" run --rm --ipc=host -e GOMP_SPINCOUNT=0 -v "$work/data:/data" -v "$work/results:/results")
# Folders made in a container belong to the container's user, so a container must empty them.
trap '"${run[@]}" "$image" sh -c "rm -rf /data/* /results/*"; rm -rf "$work"' EXIT
small=(--data_dir /data --device cpu --base_filters 2 --max_steps 2 --batch_size 2)
# Whoever starts this test, the image's user must be able to write to the folders.
mkdir -m 777 "$work/data" "$work/results" "$work/mine"

check "the image is not root's" says 1000 "${run[@]}" "$image" id -u
check "the program starts" says "unet 0." "${run[@]}" "$image" unet --version
check "flags alone are the program's" says "unet 0." "${run[@]}" "$image" --version
check "without a command there is help" says "--data_dir" "${run[@]}" "$image"
check "a synthetic dataset" "${run[@]}" "$image" unet phantom --out /data --slices 6 --size 64
check "the dataset is right" says "no problem found" "${run[@]}" "$image" unet inspect --data_dir /data
check "training and evaluation" \
  "${run[@]}" "$image" unet "${small[@]}" --exec_mode train_and_evaluate --crossvalidation_idx 0 --augment
check "prediction" "${run[@]}" "$image" unet --data_dir /data --device cpu --exec_mode predict
check "two processes" "${run[@]}" "$image" unet "${small[@]}" --nproc_per_node 2 --model_dir /results/two
check "a root that is read-only" "${run[@]}" --read-only "$image" unet "${small[@]}" --model_dir /results/read_only
check "one CPU" "${run[@]}" --cpus 1 "$image" unet "${small[@]}" --model_dir /results/one_cpu
for file in model.safetensors eval.json config.json pred/test-masks.tif {two,read_only,one_cpu}/model.safetensors; do
  check "it left $file" test -s "$work/results/$file"
done
# Run as the caller, so that the results belong to the caller; but never as root.
me=$(id -u) && [[ $me != 0 ]] || me=4321
chmod 777 "$work/mine"
check "another user" "$docker" run --rm --user "$me:$me" -v "$work/data:/data" -v "$work/mine:/results" "$image" \
  unet "${small[@]}"
check "whose files they are" test "$(stat -c %u "$work/mine/model.safetensors")" = "$me"
chmod 755 "$work/mine"
check "an unwritable folder is an error that names it" says "/results" \
  "$docker" run --rm --user 4322:4322 -v "$work/data:/data" -v "$work/mine:/results" "$image" \
  unet "${small[@]}" --overwrite
if command -v nvidia-smi >/dev/null && "$docker" run --rm --gpus all "$image" nvidia-smi >/dev/null 2>&1; then
  check "training on a GPU" "${run[@]}" --gpus all "$image" unet --data_dir /data --device cuda --amp --max_steps 20 \
    --model_dir /results/gpu
else
  echo "smoke test: no GPU for containers here: training on one was left out"
fi
echo "smoke test: passed"
