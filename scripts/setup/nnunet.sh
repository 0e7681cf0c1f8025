#!/usr/bin/env bash
# Installs nnU-Net v2 into .libtorch/nnunet, in the versions that nnunet.txt pins (about 0.8 GB). It uses the torch of
# scripts/setup/libtorch.sh. Does nothing where it is installed already.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/setup/pip.sh
pins=scripts/setup/nnunet.txt folder=.libtorch/nnunet
if cmp -s "$pins" "$folder/nnunet.txt"; then
  exit
fi
echo "setup: installing nnU-Net v2 of $pins into $folder" >&2
find_pip
# The folder appears under its own name only when it is complete.
mkdir -p .libtorch
rm -rf "$folder" "$folder.incomplete"
"${pip[@]}" install --quiet --no-compile --no-deps --target "$folder.incomplete" --requirement "$pins"
cp "$pins" "$folder.incomplete/"
mv "$folder.incomplete" "$folder"
