#!/usr/bin/env python3
"""Writes the software bill of materials (CycloneDX 1.5, JSON): all crates that become part of the program, by
cargo-cyclonedx, and libtorch, which no crate names.

Usage: scripts/sbom.py FILE

Installs cargo-cyclonedx into target/tools if it is missing. The same commit gives the same bytes.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION = "0.5.9"
TARGET = "x86_64-unknown-linux-gnu"
NAME = "sbom"


def output(*command, **options):
    return subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE, **options).stdout


def install(tools):
    """Unoptimised, as it runs for a second and takes minutes to optimise."""
    try:
        if VERSION in output("cargo-cyclonedx", "cyclonedx", "--version"):
            return
    except (FileNotFoundError, subprocess.CalledProcessError):
        pass
    print(f"sbom: installing cargo-cyclonedx {VERSION} into {tools}", file=sys.stderr)
    output(
        "cargo", "install", "--quiet", "--debug", "--locked", "--root", tools, "--version", VERSION, "cargo-cyclonedx"
    )


def crates():
    """The bill of the crates for this platform, without those of tests and of build scripts."""
    epoch = output("git", "log", "-1", "--format=%ct").strip()
    written = ROOT / f"{NAME}.json"
    options = ["--format", "json", "--spec-version", "1.5", "--target", TARGET, "--no-build-deps", "--quiet"]
    environment = os.environ | {"SOURCE_DATE_EPOCH": epoch}
    output("cargo-cyclonedx", "cyclonedx", *options, "--override-filename", NAME, env=environment)
    # The path of the checkout says nothing to others.
    bill = json.loads(written.read_text().replace(f"path+file://{ROOT}#", ""))
    written.unlink()
    return bill


def add_libtorch(bill):
    """The version is that of build.rs, which compiles against no other."""
    version = re.search(r'LIBTORCH_VERSION: &str = "(.*)"', (ROOT / "build.rs").read_text())[1]
    libtorch = {
        "type": "library",
        "bom-ref": f"pkg:pypi/torch@{version}",
        "name": "torch",
        "version": version,
        "description": "libtorch, the C++ library within this package, linked at run time",
        "licenses": [{"expression": "BSD-3-Clause"}],
        "purl": f"pkg:pypi/torch@{version}",
    }
    bill["components"].append(libtorch)
    program = bill["metadata"]["component"]["bom-ref"]
    next(entry for entry in bill["dependencies"] if entry["ref"] == program)["dependsOn"].append(libtorch["bom-ref"])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    tools = ROOT / "target/tools"
    os.environ["PATH"] = f"{tools / 'bin'}{os.pathsep}{os.environ['PATH']}"
    install(tools)
    bill = crates()
    add_libtorch(bill)
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(bill, indent=2) + "\n")
    print(f"sbom: {len(bill['components'])} components in {target}")


main()
