"""Runs the program for a part, within the time of the call."""

import shutil
import struct
import subprocess
import time
from pathlib import Path

from commands import CommandError, end, flags, start, wait, words


class NotHereError(Exception):
    """A part cannot run on this machine; the text says why. That is no result, good or bad."""


class Runner:
    """Runs programs for the parts of one call, which ends at `self.end` on the monotonic clock."""

    def __init__(self, options):
        self.options = options
        self.end = time.monotonic() + 60 * options.minutes

    def seconds_left(self):
        return self.end - time.monotonic()

    def folder(self, name, empty=False):
        folder = self.options.out / "runs" / name
        if empty:
            shutil.rmtree(folder, ignore_errors=True)
        return folder

    def command(self, name, command, environment=None):
        """Runs a command; its output goes to OUT/logs. Returns exit code, output and seconds.

        Errors: TimeLimitError where the time of the call is up.
        """
        log = self.options.out / "logs" / f"{name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        with open(log, "w") as output:
            print("$", words(command), file=output, flush=True)
            process = start(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
            try:
                code, _ = wait(process, max(1, self.seconds_left()))
            finally:
                end(process)
        return code, log.read_text(errors="replace"), time.monotonic() - begin

    def unet(self, name, *arguments, **values):
        """Runs the program. Returns its output and its seconds. Errors: CommandError with its last line."""
        network = dict(device=self.options.device, base_filters=self.options.base_filters)
        command = [self.options.binary, *arguments, *flags(**{**network, **values})]
        code, text, seconds = self.command(name, command)
        if code:
            raise CommandError(f"{name}: exit code {code}: {text.splitlines()[-1]}")
        return text, seconds

    def train(self, name, folder=None, **values):
        """A short training run. Returns its model folder."""
        folder = folder or self.folder(name)
        recipe = dict(max_steps=self.options.short_steps, augment=True, deterministic=True, log_every=10)
        self.unet(name, **{**recipe, **values, "data_dir": self.options.data, "model_dir": folder})
        return folder


def weights(path):
    """All numbers of a weight file in one row, as f64."""
    # Here alone, so that the rest of the script can be tested without PyTorch.
    import torch

    data = Path(path).read_bytes()
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    return torch.frombuffer(bytearray(data[begin:]), dtype=torch.float32).double()


def limited(name, value, limit):
    """A row of the table: a value that must not exceed its limit. None and NaN exceed every limit."""
    value = float("inf") if value is None else value
    return dict(name=name, value=value, limit=limit, passed=value <= limit)


def weight_difference(name, first, second, limit):
    """The norm of the difference of two models' weights, relative to the norm of the second's."""
    first, second = (weights(folder / "model.safetensors") for folder in (first, second))
    return limited(name, ((first - second).norm() / second.norm()).item(), limit)


def of_rows(rows, **more):
    """The result of a part that is nothing but rows."""
    return dict(rows=rows, passed=len(rows) > 0 and all(row["passed"] for row in rows), **more)
