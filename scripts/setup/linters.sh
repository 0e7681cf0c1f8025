#!/usr/bin/env bash
# Installs the linters of scripts/check/lint.sh into target/tools/linters, in the versions that linters.txt pins.
# Does nothing where they are installed already.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/setup/pip.sh
folder=target/tools/linters
install_pins "the linters" scripts/setup/linters.txt "$folder" --only-binary :all:
# pip's own starter for clang-format is a Python script that must find its package; the program needs no starter.
ln -sf ../clang_format/data/bin/clang-format "$folder/bin/clang-format"
