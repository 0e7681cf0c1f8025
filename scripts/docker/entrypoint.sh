#!/bin/sh
# Makes `docker run IMAGE unet --help`, `docker run IMAGE --help` and `docker run IMAGE bash` do what they say.
# It takes the place of NVIDIA's entry point, which prints a banner to stdout.
case ${1:-} in
  -*) exec unet "$@" ;;
  *) exec "$@" ;;
esac
