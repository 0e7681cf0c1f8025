#!/usr/bin/env bash
# Installs the tools of scripts/package.sh into target/tools/packaging, in the versions that packaging.txt pins.
# Does nothing where they are installed already.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/setup/pip.sh
install_pins "the packaging tools" scripts/setup/packaging.txt target/tools/packaging --only-binary :all:
