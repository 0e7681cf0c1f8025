#!/usr/bin/env bash
# Makes a release in dist/: wheel, tarball, software bill of materials, checksums. Publishes nothing: the list of what a
# person does then is printed at the end. Build it on the oldest system that is to run it (Debian 12).
# Usage: scripts/release.sh
#   PACKAGES=DIR   libtorch of the tarball (default: that for CPUs from PyTorch's own index, in target/libtorch_cpu)
set -euo pipefail
cd "$(dirname "$0")/.."

die() {
  echo "release: $*" >&2
  exit 1
}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
[[ -z $(git status --porcelain) ]] || die "the checkout has changes; commit them first"
grep -Eq "^## $version \([0-9]{4}-[0-9]{2}-[0-9]{2}\)\$" CHANGELOG.md ||
  die "CHANGELOG.md has no section '## $version (YEAR-MONTH-DAY)'; write the date of the release there"
scripts/setup/libtorch.sh
cargo build --release --locked
if [[ -z ${PACKAGES:-} ]]; then
  PACKAGES=target/libtorch_cpu
  [[ -d $PACKAGES ]] || scripts/setup/fetch_libtorch.sh cpu "$PACKAGES" ||
    die "the libtorch for CPUs cannot be fetched; name a folder with one (PACKAGES=.libtorch/site-packages takes the" \
      "CPU half of the CUDA flavour)"
fi
export PACKAGES
rm -rf dist
export SBOM=dist/unet-$version.cdx.json
scripts/sbom.py "$SBOM"
scripts/package.sh
(cd dist && sha256sum -- * >SHA256SUMS)
cat dist/SHA256SUMS
cat <<END

release: $version is in dist/. By hand, in this order:
 1. scripts/check/prove_packages.sh, and on a machine with a GPU scripts/check/gpu_check.sh
 2. scripts/check/dependencies.sh where GitHub can be reached, for known weaknesses of the crates
 3. git tag --sign v$version && git push origin v$version
 4. sign the checksums: gpg --detach-sign --armor dist/SHA256SUMS
 5. a release of the tag with all files of dist/, and the section $version of CHANGELOG.md as its text
 6. the wheel to the package index: twine upload dist/unet_segmentation-$version-*.whl
 7. the image, once it has passed scripts/docker/smoke_test.sh: docker build -t REGISTRY/unet:$version . && docker push
    REGISTRY/unet:$version. Read the terms of NVIDIA's base image and libraries first (docs/docker.md)
 8. a new section '## Unreleased' in CHANGELOG.md, and the next version in Cargo.toml
END
