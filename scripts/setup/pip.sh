# shellcheck shell=bash
# Defines find_pip, for the scripts beside this one; they call it in the project's root folder.
# PYTHON names the Python to use (default python3).

# Sets the array `pip` to the command that runs pip. Debian's python3 has neither pip nor ensurepip, but Debian's package
# with pip's wheel can be unpacked without being installed. Exit code 1, with a message, where that fails too.
find_pip() {
  local python=${PYTHON:-python3} tools=.libtorch/tools wheel
  pip=("$python" -m pip)
  if ! "${pip[@]}" --version >/dev/null 2>&1; then
    if ! compgen -G "$tools/usr/share/python-wheels/pip-*.whl" >/dev/null; then
      unpack_pip "$tools" || {
        echo "setup: '$python' has no pip and it could not be fetched; install it (apt-get install python3-pip)" >&2
        return 1
      }
    fi
    wheel=$(compgen -G "$tools/usr/share/python-wheels/pip-*.whl" | head -n 1)
    pip=("$python" "$wheel/pip")
  fi
  export PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
}

unpack_pip() {
  command -v apt-get >/dev/null && mkdir -p "$1" || return
  (
    cd "$1" || exit
    if [[ $(id -u) == 0 ]]; then apt-get update >&2 || exit; fi
    apt-get download python3-pip-whl >&2 && dpkg -x python3-pip-whl_*.deb .
  )
}
