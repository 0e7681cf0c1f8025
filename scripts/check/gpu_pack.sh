#!/usr/bin/env bash
# Makes the folder that travels to a machine with a GPU: stripped binaries, scripts, data. Prints its size.
# Usage: scripts/check/gpu_pack.sh DATA FOLDER
# DATA has the three ISBI stacks. FOLDER is made anew, and is refused if it holds anything else. The binaries are those
# in target/release (or $CARGO_TARGET_DIR/release), made before by
#   cargo build --release --locked && cargo test --release --locked --bin unet --no-run
# $MOST_MIB (64) is the most that the folder may have.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
data=${1:?folder with the three stacks} folder=${2:?folder to make}
release=${CARGO_TARGET_DIR:-$root/target}/release
most=${MOST_MIB:-64}
mark=.made-by-gpu_pack

fail() {
  echo "gpu_pack: $*" >&2
  exit 1
}

[[ -x $release/unet ]] || fail "no '$release/unet'; run cargo build --release --locked"
# The tests' program: of those named unet-* in deps/ the newest that lists tests. The other one is unet itself.
tests=
while IFS= read -r program; do
  if [[ -x $program && $program != *.* && ! $program -ef $release/unet ]] &&
    "$program" --list 2>/dev/null | grep -q 'on_a_gpu.*: test$'; then
    tests=$program
    break
  fi
done < <(ls -t "$release"/deps/unet-* 2>/dev/null)
[[ -n $tests ]] || fail "no tests in '$release/deps'; run cargo test --release --locked --bin unet --no-run"
if [[ $tests -ot $release/unet ]]; then
  echo "gpu_pack: warning: the tests are older than unet" >&2
fi

if [[ -e $folder && ! -e $folder/$mark ]]; then
  rmdir "$folder" 2>/dev/null || fail "'$folder' holds something else; remove it, or name another folder"
fi
rm -rf "$folder"
mkdir -p "$folder/data"
touch "$folder/$mark"
strip -o "$folder/unet" "$release/unet"
strip -o "$folder/unet-tests" "$tests"
for stack in train-volume train-labels test-volume; do
  [[ -f $data/$stack.tif ]] || fail "no '$data/$stack.tif'"
  cp "$data/$stack.tif" "$folder/data"
done
mkdir -p "$folder/scripts"
cp -r "$root/scripts/check" "$root/scripts/bench" "$folder/scripts"
find "$folder" -name __pycache__ -prune -exec rm -rf {} +

bytes=$(du -sb "$folder" | cut -f1)
awk -v bytes="$bytes" -v folder="$folder" 'BEGIN { printf "%s: %.1f MiB\n", folder, bytes / 2^20 }'
((bytes <= most << 20)) || fail "'$folder' has more than $most MiB"
echo "there: scripts/check/gpu_check.sh unet data OUT --block A"
