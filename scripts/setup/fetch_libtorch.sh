#!/usr/bin/env bash
# Puts libtorch 2.11.0 (the torch wheel) and what a build against it needs into a folder; the libtorch is DIR/torch.
# Usage: scripts/setup/fetch_libtorch.sh FLAVOUR DIR
#   cu130  CUDA 13.0, for GPUs from Turing on
#   cu126  CUDA 12.6, for GPUs from Maxwell to Hopper, among them V100
#   cpu    no CUDA
set -euo pipefail
flavour=${1:?cu130, cu126 or cpu} folder=${2:?folder for the packages}
cd "$(dirname "$0")/../.."
# What scripts/setup/requirements.txt says of libtorch, without the tools of the tests.
torch=$(grep '^torch==' scripts/setup/requirements.txt)
index=()
# PyTorch's own index has the flavours that the public one lacks, under the version's local part.
own() {
  index=(--extra-index-url "https://download.pytorch.org/whl/$flavour")
  torch=$torch+$flavour
}
case $flavour in
  cu130) mapfile -t headers < <(grep '^nvidia-' scripts/setup/requirements.txt) ;;
  # CUDA 12 has the headers of `crt` beside the compiler.
  cu126) own && headers=('nvidia-cuda-nvcc-cu12==12.6.*' 'nvidia-cuda-cccl-cu12==12.6.*') ;;
  cpu) own && headers=() ;;
  *) echo "fetch_libtorch: unknown flavour '$flavour'; choose cu130, cu126 or cpu" >&2 && exit 2 ;;
esac
[[ ! -e $folder ]] || { echo "fetch_libtorch: '$folder' is there already; remove it or name another" >&2 && exit 1; }
# Under another name first, so that an interrupted download is not taken for a complete one.
incomplete=$folder.incomplete
rm -rf "$incomplete"
# In one call: pip does not add to a folder of packages that is there.
PIP_ROOT_USER_ACTION=ignore "${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-compile \
  --target "$incomplete" "${index[@]}" "$torch" "${headers[@]}"
mv "$incomplete" "$folder"
