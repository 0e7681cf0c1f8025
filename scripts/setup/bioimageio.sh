#!/usr/bin/env bash
# Installs the tools of the BioImage Model Zoo into .libtorch/bioimageio, in the versions that bioimageio.txt pins
# (about 0.3 GB). They use the torch and the onnxruntime of scripts/setup/libtorch.sh. Does nothing where they are
# installed already.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/setup/pip.sh
pins=scripts/setup/bioimageio.txt folder=.libtorch/bioimageio
if cmp -s "$pins" "$folder/bioimageio.txt"; then
  exit
fi
echo "setup: installing the tools of the BioImage Model Zoo of $pins into $folder" >&2
find_pip
# The folder appears under its own name only when it is complete.
mkdir -p .libtorch
rm -rf "$folder" "$folder.incomplete"
"${pip[@]}" install --quiet --no-compile --no-deps --target "$folder.incomplete" --requirement "$pins"
cp "$pins" "$folder.incomplete/"
mv "$folder.incomplete" "$folder"
