# Two stages: the first fetches libtorch and builds `unet`, the second holds just what runs. See docs/docker.md.
#
# The CUDA libraries come with libtorch's wheels, in the versions it was built with. NVIDIA's smallest image is enough
# below them: its `runtime` and `cudnn` flavours would add the same libraries once more.
ARG BASE=nvidia/cuda:13.0.2-base-ubuntu24.04
# Only its folders /usr/local/cargo and /usr/local/rustup are used: its own release of Debian does not matter.
ARG RUST_IMAGE=rust:1.95-slim-trixie

FROM ${RUST_IMAGE} AS rust

# Both stages have one base, so that the program runs with the C library that it was linked with.
FROM ${BASE} AS build
RUN apt-get update && \
    apt-get install -y --no-install-recommends ca-certificates g++ python3 python3-pip && \
    rm -rf /var/lib/apt/lists/*
COPY --from=rust /usr/local/cargo /usr/local/cargo
COPY --from=rust /usr/local/rustup /usr/local/rustup
ENV CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup PATH=/usr/local/cargo/bin:$PATH
WORKDIR /build
# cu130 (Turing and later), cu126 (Maxwell to Hopper, among them V100) or cpu.
ARG TORCH=cu130
COPY scripts/setup/fetch_libtorch.sh scripts/setup/requirements.txt scripts/setup/
RUN scripts/setup/fetch_libtorch.sh "$TORCH" /opt/unet/lib
COPY . .
RUN LIBTORCH=/opt/unet/lib/torch cargo build --release --locked
RUN scripts/docker/collect.sh target/release/unet /opt/unet/lib /image && \
    scripts/docker/third_party_licenses.sh /image/opt/unet/licenses/crates

FROM ${BASE}
# The container toolkit puts in the driver's own libraries and nvidia-smi.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build /image /
COPY scripts/docker/entrypoint.sh /usr/local/bin/unet-entrypoint
COPY examples /opt/unet/examples
COPY LICENSE NOTICE /opt/unet/
COPY src/output/pictures/DejaVuSans-Latin.LICENSE /opt/unet/licenses/
# On most machines 1000 is the first user, whose mounted folders the image's user can then write to. Ubuntu's image has
# a user with that number already.
ARG UID=1000
RUN taken=$(getent passwd "$UID" | cut -d: -f1) && if [ -n "$taken" ]; then userdel --remove "$taken" 2>/dev/null; fi; \
    useradd --create-home --uid "$UID" unet && chmod 1777 /home/unet && \
    mkdir -p /data /results && chown unet /data /results
# The driver keeps compiled kernels in HOME. `docker run --user` may name a user that has no home of its own.
ENV HOME=/home/unet
USER unet
WORKDIR /results
# Fails if a library is missing.
RUN unet --version
ENTRYPOINT ["unet-entrypoint"]
CMD ["unet", "--help"]
