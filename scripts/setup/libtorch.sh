#!/usr/bin/env bash
# Sets up what the build needs, once: the link `libtorch` at the project root.
#
# If LIBTORCH is exported, the link points to that folder (a libtorch 2.11.0 with include/ and lib/). Otherwise
# scripts/setup/requirements.txt is installed into .libtorch/ (about 4.5 GB); its torch wheel contains libtorch.
# PYTHON names the Python to use (default python3).
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/setup/pip.sh
python=${PYTHON:-python3}
wanted=scripts/setup/requirements.txt packages=.libtorch/site-packages

die() {
  echo "setup: $*" >&2
  exit 1
}

if [[ -n ${LIBTORCH:-} ]]; then
  [[ -f $LIBTORCH/include/torch/headeronly/version.h && -d $LIBTORCH/lib ]] ||
    die "LIBTORCH='$LIBTORCH' has no include/torch/headeronly/version.h or no lib; name the folder of a libtorch 2.11.0"
  ln -sfn "$(realpath "$LIBTORCH")" libtorch
  exit
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
  die "Python 3.11 or later is needed for libtorch (in the torch wheel) and the tests; install it, or set LIBTORCH"
if ! cmp -s "$wanted" "$packages/requirements.txt"; then
  echo "setup: fetching libtorch and the test tools into $packages (about 3 GB to download)" >&2
  find_pip
  # The folder appears under its own name only when it is complete.
  rm -rf .libtorch/incomplete
  "${pip[@]}" install --quiet --no-compile --target .libtorch/incomplete --requirement "$wanted"
  cp "$wanted" .libtorch/incomplete/
  rm -rf "$packages"
  mv .libtorch/incomplete "$packages"
fi
# Replaces a link that an earlier LIBTORCH made.
ln -sfn "$packages/torch" libtorch
