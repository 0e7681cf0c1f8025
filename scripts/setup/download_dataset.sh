#!/usr/bin/env bash
# Fetches the stacks of the ISBI 2012 challenge into DIR: train-volume.tif, train-labels.tif, test-volume.tif, and
# test-labels.tif where the archive has it. Checks them, and never replaces a file that is there. Run again after an
# interruption, it goes on where it stopped.
# Usage: scripts/setup/download_dataset.sh [--url URL] [DIR]    (DIR: data)
# --url, or ISBI2012_URL, names another copy of the archive, a zip with these four names; file:///... for one on disk.
set -euo pipefail
scripts=$(dirname "$(realpath "$0")")
url=${ISBI2012_URL:-https://downloads.imagej.net/ISBI-2012-challenge.zip}
folder=

die() {
  echo "download_dataset: $*" >&2
  exit 1
}

while (($#)); do
  case $1 in
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" && exit ;;
    --url) url=${2:-} && { (($# == 1)) || shift; } ;;
    --url=*) url=${1#*=} ;;
    -*) echo "download_dataset: unknown option '$1'; see --help" >&2 && exit 2 ;;
    *) [[ -z $folder ]] || { echo "download_dataset: one folder, not '$folder' and '$1'" >&2 && exit 2; } && folder=$1 ;;
  esac
  shift
done
[[ -n $url ]] || { echo "download_dataset: --url wants an address" >&2 && exit 2; }
folder=${folder:-data}
for tool in curl python3; do
  command -v "$tool" >/dev/null || die "no '$tool'; install it, then run this again"
done
mkdir -p "$folder" || die "cannot make the folder '$folder'"
archive=$folder/.isbi2012.zip partial=$folder/.isbi2012.zip.part
reason=$folder/.isbi2012.error
trap 'rm -f "$reason"' EXIT

# Brings the archive to its end from where the partial file ends. Prints what went wrong; 0, or curl's exit code.
fetch() {
  local code=0 status progress=(--silent)
  [[ ! -t 2 ]] || progress=(--progress-bar)
  # A server that sends less than a byte a second for a minute has gone.
  status=$(curl --fail --location --show-error "${progress[@]}" --connect-timeout 30 --speed-limit 1 --speed-time 60 \
    --continue-at - --output "$partial" --write-out '%{http_code}' "$url" 2>"$reason") || code=$?
  case $code in
    0) ;;
    # 33: no ranges. 416: the partial file is no shorter than the archive. 36: the offset makes no sense.
    33 | 36) code=33 ;;
    22) [[ $status == 416 ]] && code=33 || die "the server answered $status for '$url'; check the address, or name another with --url" ;;
    23) die "cannot write '$partial' ($(df -h --output=avail "$folder" | tail -n 1 | tr -d ' ') free); make room and run this again" ;;
    1 | 3 | 37) die "cannot read '$url' ($(cat "$reason")); check the address" ;;
  esac
  return "$code"
}

# Fetches, with another try after a cut connection and from the start where the server cannot go on.
download() {
  local code tries=0
  while ((++tries <= 3)); do
    code=0
    [[ ! -s $partial ]] || echo "going on after $(stat -c %s "$partial") bytes"
    fetch || code=$?
    case $code in
      0) mv "$partial" "$archive" && return ;;
      33) [[ -s $partial ]] && echo "the server cannot go on from there: from the start" && rm -f "$partial" ;;
      *) sleep 1 ;;
    esac
  done
  [[ $code != 18 ]] || die "the connection to '$url' was cut; run this again to go on after $(stat -c %s "$partial") bytes"
  die "cannot reach '$url' ($(sed 's/^curl: //' "$reason" | head -n 1)); check the network, or name another address with --url"
}

if ! python3 "$scripts/isbi2012.py" complete "$folder"; then
  echo "fetching $url"
  [[ -f $archive ]] || download
  python3 "$scripts/isbi2012.py" unpack "$archive" "$folder" || {
    # 3: the archive is no good, and would be none the next time.
    [[ $? != 3 ]] || rm -f "$archive"
    exit 1
  }
  rm -f "$archive"
fi
python3 "$scripts/isbi2012.py" check "$folder"
unet=$scripts/../../target/release/unet
[[ -x $unet ]] || unet=$(command -v unet || true)
[[ -z $unet ]] || "$unet" inspect --data_dir "$folder"
echo "The stacks are in '$folder'. Who uses them cites Cardona et al. 2010 (doi 10.1371/journal.pbio.1000502) and Arganda-Carreras et al."
echo "2015 (doi 10.3389/fnana.2015.00142)."
