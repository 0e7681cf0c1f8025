#!/usr/bin/env bash
# Makes the packages of the program in dist/: the wheel, which runs on the libtorch of the Python package torch, and a
# tarball for CPUs that needs nothing but glibc. Both run on systems whose glibc is as new as this one's, or newer.
# Usage: scripts/package.sh [--wheel | --tarball]    (default: both)
#   UNET=FILE      built program (default: target/release/unet)
#   PACKAGES=DIR   libtorch of the tarball (scripts/setup/fetch_libtorch.sh makes one; default: .libtorch/site-packages)
#   SBOM=FILE      software bill of materials, which goes into both (default: none)
set -euo pipefail
cd "$(dirname "$0")/.."
unet=$(realpath "${UNET:-target/release/unet}") packages=$(realpath "${PACKAGES:-.libtorch/site-packages}")
sbom=${SBOM:+$(realpath "$SBOM")}
# The date of all files in the packages.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
tools=$PWD/target/tools/packaging work=$PWD/target/package dist=$PWD/dist

die() {
  echo "package: $*" >&2
  exit 1
}

# program RPATH FILE: a copy of the program that looks for libtorch in this place.
program() {
  install -D "$unet" "$2"
  "$tools/bin/patchelf" --set-rpath "$1" "$2"
}

# share FOLDER: man pages and completions of the shells.
share() {
  local subcommand man=$1/man/man1
  mkdir -p "$man" "$1"/{bash-completion/completions,zsh/site-functions,fish/vendor_completions.d}
  "$unet" man >"$man/unet.1"
  while IFS= read -r subcommand; do
    "$unet" man "$subcommand" >"$man/unet-$subcommand.1"
  done < <(sed -n 's/^unet\\-\([a-z]*\)(1)$/\1/p' "$man/unet.1")
  "$unet" completions bash >"$1/bash-completion/completions/unet"
  "$unet" completions zsh >"$1/zsh/site-functions/_unet"
  "$unet" completions fish >"$1/fish/vendor_completions.d/unet.fish"
}

# licences FOLDER: those of the program and of what is linked into it.
licences() {
  mkdir -p "$1/licenses"
  cp LICENSE NOTICE "$1"
  cp src/output/pictures/DejaVuSans-Latin.LICENSE "$1/licenses"
  scripts/docker/third_party_licenses.sh "$1/licenses/crates"
}

make_wheel() {
  local tree=$work/wheel made
  cp -r scripts/packaging "$tree"
  # Relative to unet_segmentation/bin. `torch` is a neighbour of `unet_segmentation`.
  # shellcheck disable=SC2016 # The loader knows $ORIGIN.
  program '$ORIGIN/../../torch/lib' "$tree/unet_segmentation/bin/unet"
  licences "$tree"
  share "$tree/share"
  if [[ -n $sbom ]]; then
    cp "$sbom" "$tree/sbom.cdx.json"
  else
    sed -i '/^sbom-files/d' "$tree/pyproject.toml"
  fi
  (cd "$tree" && PYTHONPATH=$tools UNET_VERSION=$version python3 -m hatchling build --target wheel --directory "$work")
  made=$(compgen -G "$work/unet_segmentation-$version-*.whl")
  # Gives the wheel the tag of the oldest systems whose glibc and libstdc++ have what the program asks for.
  PATH=$tools/bin:$PATH PYTHONPATH=$tools python3 -m auditwheel repair --wheel-dir "$dist" \
    --exclude 'libtorch*.so' --exclude 'libc10*.so' --exclude 'libgomp.so.*' --exclude 'libcud*.so.*' "$made"
}

# The libraries that every Linux system with glibc has.
GLIBC='(linux-vdso|ld-linux-x86-64|libc|libdl|libm|libpthread|librt|libutil)\.so'

make_tarball() {
  local name=unet-$version-x86_64-linux-cpu collected=$work/collected library file
  local tree=$work/$name
  # Found in PACKAGES, whatever flavour the program was linked with.
  program "$packages/torch/lib" "$work/unet"
  scripts/docker/collect.sh --cpu "$work/unet" "$packages" "$collected"
  mkdir -p "$tree"/{bin,lib}
  # libtorch's own libraries look for each other in their own folder last.
  find "$collected$packages" -name 'lib*.so*' -exec cp --target-directory "$tree/lib" {} +
  # shellcheck disable=SC2016 # The loader knows $ORIGIN.
  program '$ORIGIN/../lib' "$tree/bin/unet"
  licences "$tree"
  cp -r "$collected/opt/unet/licenses/." "$tree/licenses"
  # The compiler's run-time libraries, which a small system may lack or have in an older version.
  for library in libstdc++ libgcc_s; do
    file=$(ldd "$work/unet" | sed -n "s/.*$library\.so.* => \(.*\) (.*/\1/p")
    cp --dereference "$file" "$tree/lib"
  done
  cp --dereference /usr/share/doc/libstdc++6/copyright "$tree/licenses/gcc-libraries" ||
    die "no licence of libstdc++ in /usr/share/doc/libstdc++6: build the tarball on Debian or Ubuntu"
  # shellcheck disable=SC2016 # Fields of dpkg-query.
  dpkg-query --show --showformat 'Built from ${source:Package} ${source:Version}\n' libstdc++6 \
    >>"$tree/licenses/gcc-libraries"
  share "$tree/share"
  [[ -z $sbom ]] || cp "$sbom" "$tree/sbom.cdx.json"
  sed "s/VERSION/$version/g" scripts/packaging/README-tarball.md >"$tree/README.md"

  file=$(env -u LD_LIBRARY_PATH ldd "$tree/bin/unet" | grep -F '=>' | grep -vF "=> $tree/" |
    grep -vE "^[[:space:]]*$GLIBC" || true)
  [[ -z $file ]] || die "the tarball lacks:"$'\n'"$file"
  echo "package: the tarball needs glibc $(objdump -T "$tree/bin/unet" "$tree"/lib/* |
    grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -n 1 | sed 's/GLIBC_//') or later"
  tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -c "$name" |
    gzip -n >"$dist/$name.tar.gz"
}

wanted=${1:-}
[[ -z $wanted || $wanted == --wheel || $wanted == --tarball ]] || die "unknown option '$wanted'; --wheel or --tarball"
[[ -x $unet ]] || die "no program '$unet'; build it (cargo build --release --locked) or name one (UNET=...)"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
built=$("$unet" --version | cut -d' ' -f2)
[[ $built == "$version" ]] || die "'$unet' is $built, Cargo.toml says $version; build it again"
scripts/setup/packaging.sh
rm -rf "$work"
mkdir -p "$work" "$dist"
[[ $wanted == --tarball ]] || make_wheel
[[ $wanted == --wheel ]] || make_tarball
rm -rf "$work"
ls -l "$dist"
