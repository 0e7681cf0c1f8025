#!/usr/bin/env bash
# Installs the tools of the BioImage Model Zoo into .libtorch/bioimageio, in the versions that bioimageio.txt pins
# (about 0.3 GB). They use the torch and the onnxruntime of scripts/setup/libtorch.sh. Does nothing where they are
# installed already.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/setup/pip.sh
install_pins "the tools of the BioImage Model Zoo" scripts/setup/bioimageio.txt .libtorch/bioimageio
