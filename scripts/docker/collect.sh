#!/usr/bin/env bash
# Copies the program and those libraries of libtorch's wheels that it uses, each to its own place below another root.
# Usage: scripts/docker/collect.sh [--cpu] UNET PACKAGES ROOT    (PACKAGES: folder of scripts/setup/fetch_libtorch.sh)
# --cpu leaves out what only a GPU needs.
set -euo pipefail
cpu=
if [[ ${1:-} == --cpu ]]; then
  cpu=1
  shift
fi
unet=${1:?built program} packages=$(realpath "${2:?folder with torch and nvidia}") root=${3:?new folder}

# Libraries that are opened by name at run time, so that no other library names them: the CUDA half of libtorch (only
# where there is a GPU) and its binding to NVRTC, NVRTC itself, which compiles kernels, and the parts of cuDNN.
# libtorch_cuda_linalg, with cuSOLVER behind it, is left out: it factorises matrices, and a U-Net has none to factorise.
# The pattern for libnvrtc leaves out its second build (alt).
shopt -s nullglob
opened=()
for library in "$packages"/torch/lib/{libtorch_cuda,libcaffe2_nvrtc}.so "$packages"/nvidia/*/lib/libcudnn_*.so.* \
  "$packages"/nvidia/*/lib/{libnvrtc,libnvrtc-builtins}.so.*; do
  # A libtorch for CPUs has none of them.
  [[ -n $cpu || ! -e $library ]] || opened+=("$library")
done

# All libraries that these need, directly or not, as the loader finds them. The container toolkit adds the driver's
# libcuda when a container starts.
found='s/^[[:space:]]*\(.*\) => \(.*\) (0x.*/\2/p'
not_found='s/^[[:space:]]*\(.*\) => not found/missing \1/p'
needed=$(ldd "$unet" "${opened[@]}" | sed -n "$found; $not_found")
missing=$(grep '^missing' <<<"$needed" | sort -u | grep -vFx 'missing libcuda.so.1' || true)
if [[ -n $missing ]]; then
  echo "collect: not found by the loader: ${missing//$'\n'/ }" >&2
  exit 1
fi

mapfile -t libraries < <(
  printf '%s\n' "${opened[@]}" "$needed" | grep / | xargs -d '\n' realpath --no-symlinks | grep -F "$packages/" |
    sort -u || true
)
mkdir -p "$root"
cp --parents --dereference --target-directory "$root" "${libraries[@]}"
install -D "$unet" "$root/usr/local/bin/unet"

# The licences of the wheels that these libraries are from, as their lists of files name them: most have them in their
# metadata, some beside their libraries.
licences=$root/opt/unet/licenses
for record in "$packages"/*.dist-info/RECORD; do
  printf '%s,\n' "${libraries[@]#"$packages/"}" | grep -qFf - "$record" || continue
  while IFS= read -r name; do
    install -D -m 644 "$packages/$name" "$licences/$name"
  done < <(cut -d, -f1 "$record" | grep -E '^([^/]*\.dist-info/licenses/|nvidia/[^/]*/LICENSE)' || true)
done
du -shL "$root"
