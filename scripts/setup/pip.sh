# shellcheck shell=bash
# Defines find_pip and install_pins for the scripts beside this one, which source it in the project's root folder.

# Sets the array `pip` to the command that runs pip for $PYTHON (default python3). Debian's python3 has neither pip nor
# ensurepip, but Debian's package with pip's wheel can be unpacked without being installed.
find_pip() {
  local python=${PYTHON:-python3} folder=.libtorch/tools wheel
  pip=("$python" -m pip)
  if ! "${pip[@]}" --version >/dev/null 2>&1; then
    if ! compgen -G "$folder/usr/share/python-wheels/pip-*.whl" >/dev/null; then
      if ! command -v apt-get >/dev/null; then
        echo "setup: '$python' has no pip; install it, then run this again" >&2
        return 1
      fi
      unpack_pip "$folder" || {
        echo "setup: '$python' has no pip and it could not be fetched; install it (apt-get install python3-pip)" >&2
        return 1
      }
    fi
    wheel=$(compgen -G "$folder/usr/share/python-wheels/pip-*.whl" | head -n 1)
    pip=("$python" "$wheel/pip")
  fi
  export PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
}

unpack_pip() (
  mkdir -p "$1" && cd "$1" || return
  # Only root may refresh the list of packages.
  [[ $(id -u) != 0 ]] || apt-get update >&2
  apt-get download python3-pip-whl >&2 && dpkg -x python3-pip-whl_*.deb .
)

# install_pins WHAT PINS FOLDER [OPTIONS of pip]: installs the packages of the file PINS, and no others, into FOLDER.
# Does nothing where they are installed already.
install_pins() {
  local what=$1 pins=$2 folder=$3
  local installed=$folder/${pins##*/}
  if cmp -s "$pins" "$installed"; then
    return
  fi
  echo "setup: installing $what of $pins into $folder" >&2
  find_pip
  # The folder appears under its own name only when it is complete.
  mkdir -p "$(dirname "$folder")"
  rm -rf "$folder" "$folder.incomplete"
  "${pip[@]}" install --quiet --no-compile --no-deps --target "$folder.incomplete" --requirement "$pins" "${@:4}"
  cp "$pins" "$folder.incomplete/"
  mv "$folder.incomplete" "$folder"
}
