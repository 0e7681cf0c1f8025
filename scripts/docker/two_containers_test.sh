#!/usr/bin/env bash
# Trains on two containers of one network, a process in each, which exchange over Gloo. In a second run one container is
# killed: the other must end with an error that says so. Without a GPU.
# Usage: scripts/docker/two_containers_test.sh [IMAGE]    (default unet-smoke-test; DOCKER names another engine)
set -euo pipefail
docker=${DOCKER:-docker} image=${1:-unet-smoke-test}
work=$(mktemp -d)
name=unet-two-$$
containers=()

# shellcheck disable=SC2329 # Called by trap.
clean_up() {
  "$docker" rm --force "${containers[@]}" >/dev/null 2>&1 || true
  "$docker" network rm "$name" >/dev/null 2>&1 || true
  # What a container's user made, a container must remove.
  "$docker" run --rm -v "$work/data:/data" -v "$work/results:/results" "$image" \
    sh -c "rm -rf /data/* /results/*" || true
  rm -rf "$work"
}
trap clean_up EXIT
mkdir -m 777 "$work/data" "$work/results"

die() {
  echo "two containers: FAILED: $*" >&2
  for container in "${containers[@]}"; do
    echo "--- $container" >&2
    "$docker" logs "$container" >&2 || true
  done
  exit 1
}

# start RUN FLAGS...: a container for each of two ranks, known to each other as host0 and host1.
start() {
  local run=$1 rank
  shift
  for rank in 0 1; do
    containers+=("$name-$run-$rank")
    "$docker" run --detach --name "$name-$run-$rank" --network "$name" --network-alias "host$rank" \
      -e RANK="$rank" -e WORLD_SIZE=2 -e LOCAL_RANK=0 -e MASTER_ADDR=host0 -e OMP_NUM_THREADS=1 -e GOMP_SPINCOUNT=0 \
      -v "$work/data:/data:ro" -v "$work/results:/results" "$image" \
      unet --data_dir /data --model_dir "/results/$run" --device cpu --base_filters 2 --batch_size 2 "$@" >/dev/null
  done
}

# ends RUN RANK CODE: waits for a container of `start`, which must end with this exit code.
ends() {
  local code
  code=$(timeout 300 "$docker" wait "$name-$1-$2") || die "host$2 of run '$1' has not ended after 300 s"
  [[ $code == "$3" ]] || die "host$2 of run '$1' ended with $code, not with $3"
}

"$docker" network create "$name" >/dev/null
"$docker" run --rm -v "$work/data:/data" "$image" unet phantom --out /data --slices 8 --size 64

echo "two containers: training to the end"
start whole --max_steps 8
ends whole 0 0
ends whole 1 0
[[ -s $work/results/whole/model.safetensors ]] || die "no weights"
"$docker" logs "$name-whole-0" 2>&1 | grep "2 processes" || die "rank 0 does not say that there are two processes"

echo "two containers: one of them is killed"
start killed --max_steps 1000000 --checkpoint_every 20
for ((i = 0; i < 120; i++)); do
  compgen -G "$work/results/killed/checkpoints/*" >/dev/null && break
  sleep 1
done
((i < 120)) || die "no checkpoint after 120 s"
"$docker" kill "$name-killed-1" >/dev/null
seconds=$SECONDS
ends killed 0 3
error=$("$docker" logs "$name-killed-0" 2>&1 | grep "error: " | tail -n 1) || die "no error was printed"
echo "two containers: after $((SECONDS - seconds)) s with exit code 3: $error"
echo "two containers: passed"
