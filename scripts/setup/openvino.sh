#!/usr/bin/env bash
# Installs OpenVINO into .libtorch/openvino, in the version that openvino.txt pins (about 0.2 GB), with the numpy of
# scripts/setup/libtorch.sh. Does nothing where it is installed already.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/setup/pip.sh
install_pins "OpenVINO" scripts/setup/openvino.txt .libtorch/openvino
