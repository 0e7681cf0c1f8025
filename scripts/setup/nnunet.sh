#!/usr/bin/env bash
# Installs nnU-Net v2 into .libtorch/nnunet, in the versions that nnunet.txt pins (about 0.8 GB). It uses the torch of
# scripts/setup/libtorch.sh. Does nothing where it is installed already.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/setup/pip.sh
install_pins "nnU-Net v2" scripts/setup/nnunet.txt .libtorch/nnunet
