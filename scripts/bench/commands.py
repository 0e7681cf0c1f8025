"""Shared by the benchmarks: runs a program, writes its flags, reads what unet logged."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

# Make glibc's allocator keep freed memory, as unet's does.
KEEP_MEMORY = dict(MALLOC_MMAP_MAX_="0", MALLOC_TRIM_THRESHOLD_=str(10**11), MALLOC_TOP_PAD_=str(256 << 20))


class CommandError(Exception):
    """A program ended with an error."""


def flags(**values):
    """The flags of a command line: `batch_size=2` is --batch_size 2, `amp=True` is --amp, `amp=False` is no flag."""
    words = []
    for name, value in values.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not False:
            words += [f"--{name}", str(value)]
    return words


def run(command, environment=None):
    """Runs a command to its end. Returns its output and its peak memory in bytes."""
    command = list(map(str, command))
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.PIPE, env={**os.environ, **(environment or {})}
        )
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise CommandError(f"{' '.join(command)} failed:\n{errors.decode()}")
        output.seek(0)
        return output.read().decode(), usage.ru_maxrss * 1024


def logged_values(log_dir):
    """All values that a run of unet wrote to log.json, by name."""
    records = [json.loads(line.removeprefix("DLLL ")) for line in Path(log_dir, "log.json").read_text().splitlines()]
    return {name: value for record in records for name, value in record.get("data", {}).items()}
