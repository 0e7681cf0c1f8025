#!/usr/bin/env bash
# Collects the licences of the crates that become part of the program, and of Rust's library: crates.txt has a line for each crate,
# and a folder has the licence files it brings. The program must have been built, or its crates been fetched.
# Usage: scripts/docker/third_party_licenses.sh OUT
set -euo pipefail
out=$(realpath -m "${1:?new folder}")
[[ ! -e $out ]] || { echo "third_party_licenses: '$out' is there already; remove it or name another" >&2 && exit 1; }
cd "$(dirname "$0")/../.."
mkdir -p "$out"
cargo tree --locked --edges normal --prefix none --no-dedupe --format '{p}|{l}|{r}' | grep -v '^unet v' |
  sed 's/ (proc-macro)//; s/ v/-/; s/|/\t/g' | sort -u >"$out/crates.txt"
registry=${CARGO_HOME:-$HOME/.cargo}/registry/src
while IFS=$'\t' read -r crate licence _; do
  # A crate without a file of its own has just its line in crates.txt.
  find "$registry"/*/"$crate" -maxdepth 1 -type f -regextype posix-extended \
    -iregex '.*/(licen[cs]e|copying|copyright|notice|unlicense)[^/]*' -exec install -D -m 644 --target-directory "$out/$crate" {} +
  [[ -n $licence ]] || echo "third_party_licenses: $crate names no licence" >&2
done <"$out/crates.txt"
library=$(rustc --print sysroot)/share/doc/rust
[[ ! -f $library/COPYRIGHT-library.html ]] || install -D -m 644 --target-directory "$out/rust-library" "$library/COPYRIGHT-library.html"
echo "$(wc -l <"$out/crates.txt") crates in $out/crates.txt"
