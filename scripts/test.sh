#!/usr/bin/env bash
# Sets up what the build needs and runs the whole test suite. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup/libtorch.sh
exec cargo test --release --locked "$@"
