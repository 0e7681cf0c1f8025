#!/usr/bin/env bash
# Fetches the stacks of the ISBI 2012 challenge into DIR: train-volume.tif, train-labels.tif, test-volume.tif, and
# test-labels.tif if the archive has it. Checks them, and never replaces a file. Run it again after an interruption: it
# continues where it stopped.
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
wrong_usage() {
  echo "download_dataset: $*" >&2
  exit 2
}

while (($#)); do
  case $1 in
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" && exit ;;
    --url)
      url=${2:-}
      (($# == 1)) || shift
      ;;
    --url=*) url=${1#*=} ;;
    -*) wrong_usage "unknown option '$1'; see --help" ;;
    *)
      [[ -z $folder ]] || wrong_usage "one folder, not '$folder' and '$1'"
      folder=$1
      ;;
  esac
  shift
done
[[ -n $url ]] || wrong_usage "--url wants an address"
folder=${folder:-data}
for tool in curl python3; do
  command -v "$tool" >/dev/null || die "no '$tool'; install it, then run this again"
done
mkdir -p "$folder" || die "cannot make the folder '$folder'"
archive=$folder/.isbi2012.zip partial=$folder/.isbi2012.zip.part
reason=$folder/.isbi2012.error
trap 'rm -f "$reason"' EXIT

# Fetches the rest of the archive, from where the partial file ends. Returns curl's exit code, or ends the script with a
# message where another try is of no use.
fetch() {
  local code=0 status free progress=(--silent)
  [[ ! -t 2 ]] || progress=(--progress-bar)
  # Gives up on a server that sends less than a byte a second for a minute.
  status=$(curl --fail --location --show-error "${progress[@]}" --connect-timeout 30 --speed-limit 1 --speed-time 60 \
    --continue-at - --output "$partial" --write-out '%{http_code}' "$url" 2>"$reason") || code=$?
  case $code in
    0) ;;
    # 33: the server does not know ranges. 36: the offset makes no sense. 416: nothing follows the partial file's end.
    33 | 36) code=33 ;;
    22)
      [[ $status == 416 ]] ||
        die "the server answered $status for '$url'; check the address, or name another with --url"
      code=33
      ;;
    23)
      free=$(df -h --output=avail "$folder" | tail -n 1 | tr -d ' ')
      die "cannot write '$partial' ($free free); make room and run this again"
      ;;
    1 | 3 | 37) die "cannot read '$url' ($(cat "$reason")); check the address" ;;
  esac
  return "$code"
}

# Fetches the archive. Tries again after a lost connection, and from the start if the server cannot continue.
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
  [[ $code != 18 ]] ||
    die "the connection to '$url' was cut; run this again to go on after $(stat -c %s "$partial") bytes"
  die "cannot reach '$url' ($(sed 's/^curl: //' "$reason" | head -n 1));" \
    "check the network, or name another address with --url"
}

if ! python3 "$scripts/isbi2012.py" complete "$folder"; then
  echo "fetching $url"
  [[ -f $archive ]] || download
  python3 "$scripts/isbi2012.py" unpack "$archive" "$folder" || {
    # 3: the archive itself is bad, so the next run must fetch it again.
    [[ $? != 3 ]] || rm -f "$archive"
    exit 1
  }
  rm -f "$archive"
fi
python3 "$scripts/isbi2012.py" check "$folder"
unet=$scripts/../../target/release/unet
[[ -x $unet ]] || unet=$(command -v unet || true)
[[ -z $unet ]] || "$unet" inspect --data_dir "$folder"
echo "The stacks are in '$folder'. If you use them, cite Cardona et al. 2010 (doi 10.1371/journal.pbio.1000502)"
echo "and Arganda-Carreras et al. 2015 (doi 10.3389/fnana.2015.00142)."
