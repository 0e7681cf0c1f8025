"""What a measurement says of the machine, the program and the data that it was made with."""

import hashlib
import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# What the program is built from.
SOURCES = ("src", "build.rs", "Cargo.toml", "Cargo.lock")
IMAGE_SUFFIXES = {".tif", ".tiff", ".png", ".jpg", ".jpeg"}


def cpu_info():
    """The lines of /proc/cpuinfo of the first processor, by name; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def describe():
    """CPU model, threads, and what the CPU has of the instructions that decide the speed."""
    info = cpu_info()
    extensions = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags(info)]
    model = info.get("model name", platform.processor() or platform.machine())
    # Some virtual machines hide the name of their CPU; family and model still tell it.
    numbers = " ".join(f"{key.split()[-1]} {info[key]}" for key in ("cpu family", "model") if key in info)
    return dict(cpu=model, cpu_numbers=numbers, cpu_extensions=extensions, threads=threads())


def flags(info):
    return set(info.get("flags", "").split())


def threads():
    """The threads that unet computes with on the CPU."""
    return int(os.environ.get("OMP_NUM_THREADS", 0)) or len(os.sched_getaffinity(0))


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_sha256(folder):
    """A checksum of the images and labels below a folder, with their names."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise FileNotFoundError(f"'{folder}' holds no images; name the folder of the dataset")
    lines = "".join(f"{sha256(path)} {path.relative_to(folder)}\n" for path in paths)
    return hashlib.sha256(lines.encode()).hexdigest()


def output(command):
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout.strip()


def program(unet):
    """Version of the program, checksum of its file, and the last commit that changed its sources."""
    described = dict(version=output([unet, "--version"]), sha256=sha256(unet))
    try:
        git = ["git", "-C", ROOT]
        commit = output([*git, "log", "-1", "--format=%h", "--", *SOURCES])
        changed = output([*git, "status", "--porcelain", "--", *SOURCES])
        described["commit"] = commit + ("-changed" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        pass
    return described
