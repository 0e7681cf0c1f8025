#!/usr/bin/env bash
# Two network namespaces with a veth pair stand for two machines: trains with one process on each, started first by hand
# (torchrun's variables), then by torchrun itself. Both must end with the weights of two processes on one machine.
# Usage: tests/two_hosts.sh UNET    (needs root and the command `ip`; skips with a message otherwise)
set -euo pipefail
unet=$(realpath "${1:?the program}")
root=$(cd "$(dirname "$0")/.." && pwd)
skip() { echo "skipped: $1"; exit 0; }
[[ $(id -u) == 0 ]] || skip "network namespaces need root"
command -v ip >/dev/null || skip "no command ip (package iproute2)"
a=unet-a-$$ b=unet-b-$$ folder=$(mktemp -d)
trap 'ip netns del $a 2>/dev/null; ip netns del $b 2>/dev/null; rm -rf "$folder"' EXIT
{ ip netns add "$a" && ip netns add "$b" && ip -n "$a" link add veth0 type veth peer name veth0 netns "$b"; } \
  2>"$folder/why" || skip "no network namespaces here: $(cat "$folder/why")"
for host in "$a 10.99.0.1" "$b 10.99.0.2"; do
  read -r name address <<<"$host"
  ip -n "$name" address add "$address/24" dev veth0
  ip -n "$name" link set veth0 up
  ip -n "$name" link set lo up
done

cd "$folder"
"$unet" phantom --out data --slices 6 --size 64 >/dev/null
flags=(--data_dir data --device cpu --base_filters 2 --augment --max_steps 4 --log_every 2 --dist_timeout 60)
export OMP_NUM_THREADS=1

# by_hand HOST RANK
by_hand() {
  ip netns exec "$1" env RANK="$2" WORLD_SIZE=2 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 \
    MASTER_ADDR=10.99.0.1 MASTER_PORT=29500 "$unet" "${flags[@]}" --model_dir by_hand
}
# by_torchrun HOST RANK
by_torchrun() {
  ip netns exec "$1" env PYTHONPATH="$root/.libtorch/site-packages" python3 -m torch.distributed.run --no-python \
    --nnodes 2 --node_rank "$2" --nproc_per_node 1 --master_addr 10.99.0.1 --master_port 29501 \
    "$unet" "${flags[@]}" --model_dir by_torchrun
}
# both WAY: on both hosts; fails if either fails.
both() {
  "$1" "$b" 1 & local second=$!
  "$1" "$a" 0
  wait "$second"
}

"$unet" "${flags[@]}" --model_dir one_host --nproc_per_node 2 >/dev/null
both by_hand
cmp one_host/model.safetensors by_hand/model.safetensors
echo "two hosts, started by hand: the same weights as two processes on one host"
if [[ -f $root/.libtorch/site-packages/torch/distributed/run.py ]]; then
  both by_torchrun
  cmp one_host/model.safetensors by_torchrun/model.safetensors
  echo "two hosts, started by torchrun: the same weights as two processes on one host"
else
  echo "skipped: python3 has no torch, so no torchrun"
fi
