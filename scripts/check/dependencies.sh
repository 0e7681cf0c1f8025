#!/usr/bin/env bash
# Checks the crates that the program is built from against deny.toml: licences, sources and known weaknesses.
# Installs cargo-deny into target/tools if it is missing. The database of weaknesses is on GitHub; where that cannot be
# reached, that part is skipped with a message.
set -euo pipefail
cd "$(dirname "$0")/../.."
VERSION=0.20.2
export PATH="$PWD/target/tools/bin:$PATH"
if ! cargo deny --version 2>/dev/null | grep -qF " $VERSION"; then
  echo "installing cargo-deny $VERSION into target/tools"
  # Unoptimised, as it runs for a second and takes minutes to optimise.
  cargo install --quiet --debug --locked --root target/tools --version "$VERSION" cargo-deny
fi
cargo deny --locked check bans licenses sources
if timeout 120 cargo deny fetch db 2>/dev/null; then
  cargo deny --locked check advisories
else
  echo "advisories: not checked, as their database cannot be reached"
fi
