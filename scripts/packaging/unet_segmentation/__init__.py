"""Starts the program `unet` on the libtorch of this Python environment, without importing torch."""

import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

# What the program is linked with. Another version lacks some of its symbols.
TORCH_VERSION = "2.11.0"


def libtorch():
    """The folder with libtorch of the `torch` that `import torch` would find."""
    install = f"install it with: {sys.executable} -m pip install torch=={TORCH_VERSION}"
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"error: no package 'torch' in {sys.prefix}, which has the libtorch that unet needs; {install}")
    package = Path(spec.submodule_search_locations[0])
    # The metadata beside the package, not that of another folder of sys.path.
    found = next(iter(importlib.metadata.distributions(name="torch", path=[str(package.parent)])), None)
    version = found.version if found else "of an unknown version"
    # A flavour is a local part: 2.11.0+cpu.
    if version.partition("+")[0] != TORCH_VERSION:
        sys.exit(f"error: the 'torch' in {package} is {version}, unet needs {TORCH_VERSION}; {install}")
    folder = package / "lib"
    if not (folder / "libtorch_cpu.so").is_file():
        sys.exit(f"error: no libtorch_cpu.so in {folder}; {install} --force-reinstall")
    return folder


def main():
    program = Path(__file__).resolve().parent / "bin" / "unet"
    folder = libtorch()
    # The program looks in the `torch` beside its own package. Where torch is elsewhere (a virtual environment on top of
    # the system's packages), the loader is told.
    beside = program.parents[2] / "torch" / "lib"
    if not (beside.is_dir() and beside.samefile(folder)):
        others = os.environ.get("LD_LIBRARY_PATH")
        os.environ["LD_LIBRARY_PATH"] = f"{folder}:{others}" if others else str(folder)
    try:
        os.execv(program, ["unet", *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"error: cannot start '{program}': {error.strerror}; install unet-segmentation again")
