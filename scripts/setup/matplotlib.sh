#!/usr/bin/env bash
# Installs matplotlib into .libtorch/matplotlib, in the versions that matplotlib.txt pins, with the numpy of
# scripts/setup/libtorch.sh. Does nothing where it is installed already.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/setup/pip.sh
install_pins "matplotlib" scripts/setup/matplotlib.txt .libtorch/matplotlib
