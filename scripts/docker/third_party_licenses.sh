#!/usr/bin/env bash
# Collects the licences of the crates that become part of the program, and of Rust's library, in OUT: crates.txt has a
# line for each crate, and a folder for each crate has the licence files that it brings. Build the program first, so
# that its crates are fetched.
# Usage: scripts/docker/third_party_licenses.sh OUT
set -euo pipefail
out=$(realpath -m "${1:?new folder}")
if [[ -e $out ]]; then
  echo "third_party_licenses: '$out' is there already; remove it or name another" >&2
  exit 1
fi
cd "$(dirname "$0")/../.."
mkdir -p "$out"
cargo tree --locked --edges normal --prefix none --no-dedupe --format '{p}|{l}|{r}' | grep -v '^unet v' |
  sed 's/ (proc-macro)//; s/ v/-/; s/|/\t/g' | sort -u >"$out/crates.txt"
registry=${CARGO_HOME:-$HOME/.cargo}/registry/src
while IFS=$'\t' read -r crate licence _; do
  # A crate without a licence file has only its line in crates.txt.
  find "$registry"/*/"$crate" -maxdepth 1 -type f -regextype posix-extended \
    -iregex '.*/(licen[cs]e|copying|copyright|notice|unlicense)[^/]*' \
    -exec install -D -m 644 --target-directory "$out/$crate" {} +
  [[ -n $licence ]] || echo "third_party_licenses: $crate names no licence" >&2
done <"$out/crates.txt"
copyright=$(rustc --print sysroot)/share/doc/rust/COPYRIGHT-library.html
[[ ! -f $copyright ]] || install -D -m 644 --target-directory "$out/rust-library" "$copyright"
echo "$(wc -l <"$out/crates.txt") crates in $out/crates.txt"
