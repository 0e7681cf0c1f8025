#!/usr/bin/env bash
# Copies the program, and of libtorch's wheels just the libraries that it uses, each at its place, below another root.
# Usage: scripts/docker/collect.sh UNET PACKAGES ROOT    (PACKAGES: folder of scripts/setup/fetch_libtorch.sh)
set -euo pipefail
unet=${1:?built program} packages=$(realpath "${2:?folder with torch and nvidia}") root=${3:?new folder}

# Opened by name at run time, so that no library names them: libtorch's CUDA half (only where there is a GPU) and its way to NVRTC,
# NVRTC itself, which compiles kernels, and the parts of cuDNN. libtorch_cuda_linalg, with cuSOLVER behind it, is such a library too,
# but factorises matrices, of which a U-Net has none. The pattern for libnvrtc leaves its second build (alt) out.
shopt -s nullglob
opened=()
for library in "$packages"/torch/lib/{libtorch_cuda,libcaffe2_nvrtc}.so "$packages"/nvidia/*/lib/libcudnn_*.so.* \
  "$packages"/nvidia/*/lib/{libnvrtc,libnvrtc-builtins}.so.*; do
  # A libtorch for CPUs has none of them.
  [[ ! -e $library ]] || opened+=("$library")
done

# Every library that these name, and that those name, as the loader finds them. The driver's libcuda is put in by the container toolkit.
named=$(ldd "$unet" "${opened[@]}" | sed -n 's/^[[:space:]]*\(.*\) => \(.*\) (0x.*/\2/p; s/^[[:space:]]*\(.*\) => not found/missing \1/p')
missing=$(grep '^missing' <<<"$named" | sort -u | grep -vFx 'missing libcuda.so.1' || true)
[[ -z $missing ]] || { echo "collect: not found by the loader:" $missing >&2 && exit 1; }

mapfile -t libraries < <({ printf '%s\n' "${opened[@]}"; grep / <<<"$named"; } |
  xargs -d '\n' realpath --no-symlinks | grep -F "$packages/" | sort -u || true)
mkdir -p "$root"
cp --parents --dereference --target-directory "$root" "${libraries[@]}"
install -D "$unet" "$root/usr/local/bin/unet"

# Their licences, which most wheels have among their metadata and some beside their libraries.
licences=$root/opt/unet/licenses
for file in "$packages"/{torch,nvidia_*}-*.dist-info/licenses "$packages"/nvidia/*/LICENSE*; do
  name=${file#"$packages/"}
  mkdir -p "$licences/$(dirname "$name")"
  cp -r "$file" "$licences/$name"
done
du -shL "$root"
