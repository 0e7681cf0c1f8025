#!/usr/bin/env bash
# Checks the text of all sources: format, lints, lengths of lines, circles of imports. Builds nothing.
# Installs the linters first (scripts/setup/linters.sh). All checks run, also after one that fails.
# Usage: scripts/check/lint.sh [--fix]    (--fix: formats Python, shell, C++ and Rust in place before the checks)
set -euo pipefail
cd "$(dirname "$0")/../.."
fix=${1:-}
if [[ -n $fix && $fix != --fix ]]; then
  echo "lint: unknown option '$fix'; the only one is --fix" >&2
  exit 2
fi
scripts/setup/linters.sh
export PATH="$PWD/target/tools/linters/bin:$PATH"

# sources PATTERN...: prints the files that git knows or would add.
sources() {
  git ls-files --cached --others --exclude-standard -- "$@" | sort -u
}
mapfile -t shell < <(sources '*.sh' '*.sbatch' .ci/run)
mapfile -t cpp < <(sources {src/csrc,tests/cuda_kernels}/'*.'{cpp,h,cu,cuh})
shfmt=(shfmt --indent 2 --case-indent)

if [[ -n $fix ]]; then
  ruff format
  ruff check --fix || true
  "${shfmt[@]}" --write "${shell[@]}"
  [[ ! -f .clang-format || ! -d src/csrc ]] || clang-format -i "${cpp[@]}"
  cargo fmt
  cargo fmt --manifest-path fuzz/Cargo.toml
fi

failed=()
# lint NAME COMMAND...
lint() {
  if "${@:2}"; then
    echo "lint: $1: ok"
  else
    echo "lint: $1: FAILED" >&2
    failed+=("$1")
  fi
}
lint "format of Python" ruff format --check
lint ruff ruff check
lint "format of shell" "${shfmt[@]}" --diff "${shell[@]}"
lint shellcheck shellcheck "${shell[@]}"
if [[ -f .clang-format && -d src/csrc ]]; then
  lint "format of C++" clang-format --dry-run -Werror "${cpp[@]}"
else
  echo "lint: format of C++: skipped, as there is no .clang-format or no src/csrc"
fi
lint "format of Rust" cargo fmt --check
lint "format of fuzz targets" cargo fmt --check --manifest-path fuzz/Cargo.toml
lint "tests of the checks" python3 scripts/check/test_import_graph.py --quiet
lint "tests of the GPU check" env PYTHONPATH=scripts/bench python3 scripts/check/test_gpu_check.py --quiet
lint "tests of the accuracy runs" python3 scripts/bench/test_accuracy.py --quiet
lint "tests of the comparison with peers" python3 scripts/bench/test_peers.py --quiet
lint "tests of the launcher" python3 scripts/check/test_launcher.py --quiet
lint "lengths of lines" python3 scripts/check/source_widths.py
lint imports python3 scripts/check/import_graph.py
if ((${#failed[@]})); then
  printf -v names '%s, ' "${failed[@]}"
  echo "lint: failed: ${names%, }" >&2
  exit 1
fi
