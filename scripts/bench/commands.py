"""Shared by the benchmarks: runs a program, writes its flags, reads what unet logged."""

import contextlib
import json
import math
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

# Make glibc's allocator keep freed memory, as unet's does.
KEEP_MEMORY = dict(MALLOC_MMAP_MAX_="0", MALLOC_TRIM_THRESHOLD_=str(10**11), MALLOC_TOP_PAD_=str(256 << 20))


# Seconds that a program has to end after each signal.
PATIENCE = 20.0


class CommandError(Exception):
    """A program ended with an error."""


class TimeLimitError(CommandError):
    """A program was ended because its time was up. Holds a text and the seconds that it ran."""

    def __init__(self, text, seconds):
        super().__init__(text)
        self.seconds = seconds


def flags(**values):
    """The flags of a command line: `batch_size=2` is --batch_size 2, `amp=True` is --amp, `amp=False` is no flag."""
    words = []
    for name, value in values.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not False:
            words += [f"--{name}", str(value)]
    return words


def start(command, **options):
    """Starts a process in a process group of its own, so that `end` reaches what it has started too."""
    return subprocess.Popen(list(map(str, command)), process_group=0, **options)


def send(process, number):
    """Sends a signal: the last one to all of the process group, others to the process, which passes them on."""
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if number == signal.SIGKILL else os.kill)(process.pid, number)


def wait(process, seconds=None):
    """Waits for a process of `start`. Returns its exit code and what it has used.

    One that takes longer than `seconds` gets SIGTERM, a second one, then SIGKILL, with PATIENCE seconds after each.
    Errors: TimeLimitError in that case, also where it then ends with exit code 0.
    """
    begin = time.monotonic()
    deadline = math.inf if seconds is None else begin + seconds
    signals = [signal.SIGTERM, signal.SIGTERM, signal.SIGKILL]
    is_late = False
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
        if pid and not is_late:
            return process.returncode, usage
        if pid or (time.monotonic() > deadline and not signals):
            raise TimeLimitError(f"{words(process.args)} did not end in {seconds:.0f} s", time.monotonic() - begin)
        if time.monotonic() > deadline:
            is_late = True
            send(process, signals.pop(0))
            deadline = time.monotonic() + PATIENCE
        time.sleep(0.02)


def end(process):
    """Ends a process of `start` that has not ended, within some seconds."""
    if process.poll() is None:
        with contextlib.suppress(TimeLimitError):
            wait(process, 0)


def run(command, environment=None, seconds=None):
    """Runs a command to its end, or for `seconds` (TimeLimitError). Returns its output and its peak memory in bytes."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = start(command, stdout=output, stderr=errors, env={**os.environ, **(environment or {})})
        try:
            code, usage = wait(process, seconds)
        finally:
            end(process)
        errors.seek(0)
        if code:
            raise CommandError(f"{words(command)} failed:\n{errors.read().decode(errors='replace')}")
        output.seek(0)
        return output.read().decode(), usage.ru_maxrss * 1024


def words(command):
    return " ".join(map(str, command))


def logged_values(log_dir):
    """All values that a run of unet wrote to log.json, by name."""
    records = [json.loads(line.removeprefix("DLLL ")) for line in Path(log_dir, "log.json").read_text().splitlines()]
    return {name: value for record in records for name, value in record.get("data", {}).items()}
