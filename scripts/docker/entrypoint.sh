#!/bin/sh
# Entry point of the image: `docker run IMAGE --help` calls unet, `docker run IMAGE bash` and
# `docker run IMAGE unet --help` call the program that they name. NVIDIA's own entry point prints a banner to stdout.
set -eu
case ${1:-} in
  -*) exec unet "$@" ;;
  *) exec "$@" ;;
esac
