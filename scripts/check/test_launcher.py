#!/usr/bin/env python3
"""Tests of the wheel's launcher (scripts/packaging/unet_segmentation), with stand-ins for torch and for the program."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "scripts/packaging/unet_segmentation"
# Prints where the loader is told to look, then the arguments.
PROGRAM = '#!/bin/sh\nprintf "%s\\n" "libraries=$LD_LIBRARY_PATH" "$@"\n'


class Launcher(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()
        self.site = self.folder / "site"
        shutil.copytree(PACKAGE, self.site / "unet_segmentation", ignore=shutil.ignore_patterns("__pycache__"))
        program = self.site / "unet_segmentation/bin/unet"
        program.parent.mkdir()
        program.write_text(PROGRAM)
        program.chmod(0o755)

    def add_torch(self, site, version):
        """A package `torch` with the files that the launcher looks at. Its code must not run."""
        (site / "torch/lib").mkdir(parents=True)
        (site / "torch/__init__.py").write_text("raise SystemExit('torch was imported')\n")
        (site / "torch/lib/libtorch_cpu.so").touch()
        metadata = site / f"torch-{version}.dist-info/METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        return site / "torch/lib"

    def start(self, *arguments, path=(), **environment):
        """Starts the launcher with nothing but `path` and the standard library to import from."""
        paths = os.pathsep.join(map(str, [self.site, *path]))
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": paths} | environment
        # -S: no packages of the Python that runs this test.
        command = [sys.executable, "-S", "-m", "unet_segmentation", *arguments]
        return subprocess.run(
            command, env=environment, cwd=self.folder, capture_output=True, text=True, check=False, timeout=60
        )

    def test_every_file_wants_the_version_that_the_program_is_built_against(self):
        version = re.search(r'LIBTORCH_VERSION: &str = "([\d.]+)"', (ROOT / "build.rs").read_text())[1]
        for path, line in (
            ("scripts/packaging/unet_segmentation/__init__.py", f'TORCH_VERSION = "{version}"'),
            ("scripts/packaging/pyproject.toml", f'dependencies = ["torch=={version}"]'),
            ("scripts/setup/requirements.txt", f"torch=={version}"),
            ("scripts/check/gpu_check.sh", f"if [[ $version != {version} ]]; then"),
        ):
            with self.subTest(path):
                self.assertIn(line, (ROOT / path).read_text().splitlines())

    def test_arguments_arrive_and_the_loader_needs_no_help(self):
        for version in ("2.11.0", "2.11.0+cpu"):
            with self.subTest(version):
                self.add_torch(self.site, version)
                done = self.start("phantom", "--out", "a b")
                self.assertEqual(
                    (done.stdout, done.stderr, done.returncode), ("libraries=\nphantom\n--out\na b\n", "", 0)
                )
                shutil.rmtree(self.site / "torch")
                shutil.rmtree(self.site / f"torch-{version}.dist-info")

    def test_a_torch_elsewhere_is_named_to_the_loader(self):
        other = self.folder / "other"
        library = self.add_torch(other, "2.11.0")
        self.assertEqual(self.start(path=[other]).stdout, f"libraries={library}\n")
        done = self.start(path=[other], LD_LIBRARY_PATH="/mine")
        self.assertEqual(done.stdout, f"libraries={library}:/mine\n")

    def fails(self, *words):
        done = self.start()
        self.assertEqual((done.stdout, done.returncode), ("", 1), done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for word in ("error: ", *words):
            self.assertIn(word, done.stderr)

    def test_no_torch_is_an_error(self):
        self.fails("no package 'torch'", "pip install torch==2.11.0")

    def test_another_version_is_an_error(self):
        self.add_torch(self.site, "2.12.0")
        self.fails("is 2.12.0", "pip install torch==2.11.0")

    def test_a_folder_that_is_called_torch_is_an_error(self):
        (self.folder / "torch").mkdir()
        self.fails(str(self.folder / "torch"), "unknown version")

    def test_a_torch_without_libraries_is_an_error(self):
        (self.add_torch(self.site, "2.11.0") / "libtorch_cpu.so").unlink()
        self.fails("no libtorch_cpu.so")

    def test_a_program_that_does_not_start_is_an_error(self):
        self.add_torch(self.site, "2.11.0")
        (self.site / "unet_segmentation/bin/unet").unlink()
        self.fails("cannot start", "install unet-segmentation again")


if __name__ == "__main__":
    unittest.main()
