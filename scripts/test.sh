#!/usr/bin/env bash
# Does all set-up and runs the whole test suite. Arguments go to `cargo test`.
set -euo pipefail
"$(dirname "$0")/setup/libtorch.sh"
cd "$(dirname "$0")/.."
exec cargo test --release --locked "$@"
