#!/usr/bin/env bash
# Puts libtorch 2.11.0 (the torch wheel) and the headers that a build against it needs into DIR; libtorch is DIR/torch.
# Usage: scripts/setup/fetch_libtorch.sh FLAVOUR DIR
#   cu130  CUDA 13.0, for GPUs from Turing on
#   cu126  CUDA 12.6, for GPUs from Maxwell to Hopper, among them V100
#   cpu    no CUDA
set -euo pipefail
flavour=${1:?cu130, cu126 or cpu} folder=${2:?folder for the packages}
cd "$(dirname "$0")/../.."
wanted=scripts/setup/requirements.txt
# Only libtorch, without the tools of the tests.
torch=$(grep '^torch==' "$wanted")
index=() headers=()

# PyTorch's own index has the flavours that the public one lacks. The flavour is the local part of their version.
use_pytorch_index() {
  index=(--extra-index-url "https://download.pytorch.org/whl/$flavour")
  torch=$torch+$flavour
}

case $flavour in
  cu130) mapfile -t headers < <(grep '^nvidia-' "$wanted") ;;
  cu126)
    use_pytorch_index
    # The headers of `crt` are in the wheel of the compiler in CUDA 12.
    headers=('nvidia-cuda-nvcc-cu12==12.6.*' 'nvidia-cuda-cccl-cu12==12.6.*')
    ;;
  cpu) use_pytorch_index ;;
  *)
    echo "fetch_libtorch: unknown flavour '$flavour'; choose cu130, cu126 or cpu" >&2
    exit 2
    ;;
esac
if [[ -e $folder ]]; then
  echo "fetch_libtorch: '$folder' is there already; remove it or name another" >&2
  exit 1
fi
# The folder appears under its own name only when it is complete.
incomplete=$folder.incomplete
rm -rf "$incomplete"
# One call for all packages: pip does not add to a folder that has packages.
PIP_ROOT_USER_ACTION=ignore "${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --no-cache-dir \
  --no-compile --target "$incomplete" "${index[@]}" "$torch" "${headers[@]}"
mv "$incomplete" "$folder"
