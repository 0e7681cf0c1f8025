# syntax=docker/dockerfile:1
# Two stages: the first builds `unet` with its libtorch, the second holds just what runs.
# Build: docker build -t unet .        Run: see README.md.
ARG BASE=ubuntu:24.04

FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-pip && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY scripts scripts
RUN ./scripts/setup.sh
COPY . .
RUN cargo build --release --locked
# The libraries that libtorch names, where its own search path finds them.
RUN mkdir -p /opt/unet/lib/torch && cp -r libtorch/lib /opt/unet/lib/torch/lib && \
    cp -r .libtorch/site-packages/nvidia /opt/unet/lib/nvidia && \
    find /opt/unet/lib \( -name include -o -name '*.a' -o -name libtorch_python.so \) -prune -exec rm -rf {} +

FROM ${BASE}
# The driver's libraries are put in by the container toolkit.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility LD_LIBRARY_PATH=/opt/unet/lib/torch/lib
COPY --from=build /opt/unet/lib /opt/unet/lib
COPY --from=build /build/target/release/unet /usr/local/bin/unet
COPY examples /opt/unet/examples
COPY LICENSE NOTICE /opt/unet/
RUN useradd --create-home --uid 10001 unet && mkdir -p /data /results && chown unet /results
USER unet
CMD ["unet", "--help"]
