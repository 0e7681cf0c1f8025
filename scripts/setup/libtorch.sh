#!/usr/bin/env bash
# Sets up what the build needs, once: the link `libtorch` at the project root.
#
# With LIBTORCH exported, the link names that folder (a libtorch 2.11.0 with include/ and lib/). Otherwise
# scripts/setup/requirements.txt is installed into .libtorch/ (about 4.5 GB), whose torch wheel holds libtorch.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}

die() {
  echo "setup: $*" >&2
  exit 1
}

# Prints the command that runs pip. Debian's Python comes without it, and without the module that installs it;
# its package with pip's wheel can be unpacked without installing anything.
pip_command() {
  if "$python" -m pip --version >/dev/null 2>&1; then
    echo "$python -m pip"
    return
  fi
  local tools=.libtorch/tools wheel
  mkdir -p "$tools"
  if ! compgen -G "$tools/usr/share/python-wheels/pip-*.whl" >/dev/null; then
    command -v apt-get >/dev/null || die "'$python' has no pip; install it, then run this again"
    (
      cd "$tools"
      [[ $(id -u) != 0 ]] || apt-get update >&2
      apt-get download python3-pip-whl >&2
      dpkg -x python3-pip-whl_*.deb .
    ) || die "'$python' has no pip and it could not be fetched; install it (apt-get install python3-pip)"
  fi
  wheel=$(compgen -G "$tools/usr/share/python-wheels/pip-*.whl" | head -n 1)
  echo "$python $wheel/pip"
}

if [[ -n ${LIBTORCH:-} ]]; then
  [[ -f $LIBTORCH/include/torch/headeronly/version.h && -d $LIBTORCH/lib ]] ||
    die "LIBTORCH='$LIBTORCH' has no include/torch/headeronly/version.h or no lib; name the folder of a libtorch 2.11.0"
  ln -sfn "$(realpath "$LIBTORCH")" libtorch
  exit
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
  die "Python 3.10 or later is needed to fetch libtorch (the torch wheel); install python3, or set LIBTORCH"
packages=.libtorch/site-packages
if ! cmp -s scripts/setup/requirements.txt "$packages/requirements.txt"; then
  echo "setup: fetching libtorch and the test tools into $packages (about 3 GB to download)" >&2
  pip=$(pip_command)
  # Under another name first, so that an interrupted download is not taken for a complete one.
  rm -rf .libtorch/incomplete
  PIP_ROOT_USER_ACTION=ignore $pip install --quiet --disable-pip-version-check --no-compile \
    --target .libtorch/incomplete --requirement scripts/setup/requirements.txt
  cp scripts/setup/requirements.txt .libtorch/incomplete/
  rm -rf "$packages"
  mv .libtorch/incomplete "$packages"
fi
# A link that LIBTORCH made earlier stays only while LIBTORCH is set.
ln -sfn "$packages/torch" libtorch
