#!/usr/bin/env bash
# Installs the linters of scripts/check/lint.sh into target/tools/linters, in the versions that linters.txt pins.
# Does nothing where they are installed already.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/setup/pip.sh
pins=scripts/setup/linters.txt folder=target/tools/linters
if cmp -s "$pins" "$folder/linters.txt"; then
  exit
fi
echo "setup: installing the linters of $pins into $folder" >&2
find_pip
# The folder appears under its own name only when it is complete.
rm -rf "$folder" "$folder.incomplete"
"${pip[@]}" install --quiet --no-compile --no-deps --only-binary :all: \
  --target "$folder.incomplete" --requirement "$pins"
# pip's own starter for clang-format is a Python script that must find its package; the program needs no starter.
ln -sf ../clang_format/data/bin/clang-format "$folder.incomplete/bin/clang-format"
cp "$pins" "$folder.incomplete/"
mv "$folder.incomplete" "$folder"
