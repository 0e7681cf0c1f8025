#!/usr/bin/env bash
# Trains with one process on each of two hosts: network namespaces that a veth pair connects. The processes are started
# by hand with torchrun's variables, then by torchrun. Both runs must end with the weights of two processes on one host.
# Usage: tests/two_hosts.sh UNET    (needs root and the command `ip`; skips with a message otherwise)
set -euo pipefail
unet=$(realpath "${1:?the program}")
root=$(cd "$(dirname "$0")/.." && pwd)
skip() {
  echo "skipped: $1"
  exit 0
}
[[ $(id -u) == 0 ]] || skip "network namespaces need root"
command -v ip >/dev/null || skip "no command ip (package iproute2)"
first=unet-a-$$ second=unet-b-$$ folder=$(mktemp -d)
trap 'ip netns del $first 2>/dev/null; ip netns del $second 2>/dev/null; rm -rf "$folder"' EXIT
connect_namespaces() {
  ip netns add "$first" && ip netns add "$second" &&
    ip -n "$first" link add veth0 type veth peer name veth0 netns "$second"
}
connect_namespaces 2>"$folder/why" || skip "no network namespaces here: $(cat "$folder/why")"
for host in "$first 10.99.0.1" "$second 10.99.0.2"; do
  read -r name address <<<"$host"
  ip -n "$name" address add "$address/24" dev veth0
  ip -n "$name" link set veth0 up
  ip -n "$name" link set lo up
done

cd "$folder"
"$unet" phantom --out data --slices 6 --size 64 >/dev/null
flags=(--data_dir data --device cpu --base_filters 2 --augment --max_steps 8 --log_every 2 --dist_timeout 60)
export OMP_NUM_THREADS=1

# by_hand HOST RANK
by_hand() {
  local variables=(RANK="$2" WORLD_SIZE=2 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 MASTER_ADDR=10.99.0.1 MASTER_PORT=29500)
  ip netns exec "$1" env "${variables[@]}" "$unet" "${flags[@]}" --model_dir by_hand
}
# by_torchrun HOST RANK
by_torchrun() {
  ip netns exec "$1" env PYTHONPATH="$root/.libtorch/site-packages" python3 -m torch.distributed.run --no-python \
    --nnodes 2 --node_rank "$2" --nproc_per_node 1 --master_addr 10.99.0.1 --master_port 29501 \
    "$unet" "${flags[@]}" --model_dir by_torchrun
}
# both_hosts START: calls START on both hosts; fails if either fails.
both_hosts() {
  "$1" "$second" 1 &
  local other=$!
  "$1" "$first" 0
  wait "$other"
}

"$unet" "${flags[@]}" --model_dir one_host --nproc_per_node 2 >/dev/null
both_hosts by_hand
cmp one_host/model.safetensors by_hand/model.safetensors
echo "two hosts, started by hand: the same weights as two processes on one host"
if PYTHONPATH="$root/.libtorch/site-packages" python3 -c 'import torch' 2>/dev/null; then
  both_hosts by_torchrun
  cmp one_host/model.safetensors by_torchrun/model.safetensors
  echo "two hosts, started by torchrun: the same weights as two processes on one host"
else
  echo "skipped: python3 has no torch, so no torchrun"
fi
