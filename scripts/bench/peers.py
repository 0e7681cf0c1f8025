#!/usr/bin/env python3
"""Times unet and its peers in turn and prints ratios of medians; started by scripts/bench/peers.sh.

Each round runs every contender once, in a process of its own: warm-up steps, then counted steps. The result is the
median of the counted steps of all rounds. With --minutes a kind of work ends after that time: programs that still run
are ended, and the rounds made so far count.
CPU: "tuned" peers run with an allocator that keeps freed memory, as unet's does; memory is that of the process.
--at_once lets several copies of each program share the cores; --avx2 holds unet and PyTorch to AVX2 instructions.
GPU: unet runs without and with --xla, PyTorch eagerly and compiled in two modes; memory is that of the device.
"""

import argparse
import json
import math
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from commands import KEEP_MEMORY, CommandError, TimeLimitError, end, flags, logged_values, run, start, wait, words

# Each kind of work: --exec_mode, and whether with --amp.
WORKS = {
    "predict": ("predict", False),
    "predict_amp": ("predict", True),
    "train": ("train", False),
    "train_amp": ("train", True),
}
# The peers on each device.
ENGINES = {"cpu": ("eager", "compile", "openvino"), "cuda": ("eager", "compile", "compile_max")}
# Hold unet, libtorch's own kernels and oneDNN to AVX2. OpenVINO's releases have no switch for all of their kernels.
HELD_TO_AVX2 = dict(UNET_CPU_ISA="avx2", ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2")
# What the benchmark tells about the limits of a device, where it knows them.
LIMITS = ("tflops", "matmul_tflops", "matmul_share", "traffic", "copy_traffic", "copy_share")


def time_unet(options, mode, amp, xla=False, environment=None, seconds=None):
    """Returns the median step in seconds, peak memory in bytes, and the limits of the device. It may take `seconds`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            options.unet,
            *flags(data_dir=options.data_dir, model_dir=f"{folder}/none", log_dir=folder),
            *flags(benchmark=True, exec_mode=mode, device=options.device, amp=amp, xla=xla),
            *flags(batch_size=options.batch_size, base_filters=options.base_filters),
            *flags(warmup_steps=options.warmup_steps, max_steps=options.warmup_steps + options.steps),
        ]
        run(command, environment, seconds)
        logged = logged_values(folder)
    work = "test" if mode == "predict" else "train"
    # The peak when the steps end: later the benchmark measures the machine's limits, which takes memory too.
    peak = logged[f"peak_memory_{'device' if options.device == 'cuda' else 'process'}_{work}"] * 2**30
    limits = {name: logged[f"{name}_{work}"] for name in LIMITS if f"{name}_{work}" in logged}
    return [logged[f"latency_{work}_50"] / 1e3], peak, limits


def peer_command(options, engine, mode, amp, on_request=False):
    return [
        sys.executable,
        str(Path(__file__).with_name("pytorch_peer.py")),
        "bench",
        *flags(mode=mode, engine=engine, device=options.device, amp=amp, on_request=on_request),
        *flags(batch_size=options.batch_size, base_filters=options.base_filters),
        *flags(warmup_steps=options.warmup_steps, steps=options.steps),
    ]


def time_peer(options, engine, mode, amp, environment=None, seconds=None):
    """Returns all counted steps in seconds, peak memory in bytes, and no limits. It may take `seconds`."""
    output, peak = run(peer_command(options, engine, mode, amp), environment, seconds)
    result = json.loads(output.splitlines()[-1])
    return result["seconds"], result["device_peak_bytes"] or peak, {}


def at_once(count, measure):
    """`measure` by `count` processes that start together: the steps of all of them, and the sum of their memory."""

    def together(**options):
        with ThreadPoolExecutor(count) as pool:
            parts = list(pool.map(lambda _: measure(**options), range(count)))
        return [step for steps, _, _ in parts for step in steps], sum(peak for _, peak, _ in parts), {}

    return measure if count == 1 else together


class WaitingPeer:
    """PyTorch in a process that stays, as compiling takes minutes: it works when its turn comes and then waits."""

    def __init__(self, options, engine, mode, amp):
        self.command = peer_command(options, engine, mode, amp, on_request=True)
        self.process, self.lines = None, queue.Queue()

    def __call__(self, seconds=None):
        """A turn, which may take `seconds`, with compilation in the first."""
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        if self.process is None:
            self.process = start(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            threading.Thread(target=self.read, daemon=True).start()
            self.line("ready", deadline)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        result = json.loads(self.line("{", deadline))
        return result["seconds"], result["device_peak_bytes"], {}

    def read(self):
        """Puts each line of the output into the queue, and None at its end."""
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def line(self, start_of_line, deadline):
        """The next line that starts so, before the deadline."""
        while True:
            left = deadline - time.monotonic()
            try:
                line = self.lines.get(timeout=None if left == math.inf else max(0, left))
            except queue.Empty:
                self.end()
                raise TimeLimitError(f"{words(self.command)}: no result in time", 0) from None
            if line is None:
                self.end()
                raise CommandError(f"{words(self.command)} ended with exit code {self.process.returncode}")
            if line.startswith(start_of_line):
                return line

    def end(self):
        """Lets the process end by itself, as its input ends; otherwise ends it."""
        if self.process is None or self.process.returncode is not None:
            return
        try:
            self.process.stdin.close()
            if self.lines.empty():
                wait(self.process, 5)
        except (OSError, TimeLimitError):
            pass
        finally:
            end(self.process)


class Contender:
    """One program and the times of its rounds. Ratios are made between the groups: unet, stock, tuned."""

    def __init__(self, name, group, measure):
        self.name, self.group, self.measure = name, group, measure
        self.seconds, self.peaks, self.limits = [], [], {}
        # Why it has no result; and whether its time was up after some rounds.
        self.error, self.is_stopped = None, False

    def take_turn(self, seconds_left=None):
        seconds, peak, limits = self.measure(seconds=seconds_left)
        self.seconds += seconds
        self.peaks.append(peak)
        self.limits.update(limits)
        return statistics.median(seconds)

    def result(self, images):
        """The row of the table. `images`: in a step, of all copies that run at once."""
        median = statistics.median(self.seconds)
        return dict(
            name=self.name,
            group=self.group,
            seconds=median,
            spread=[min(self.seconds), max(self.seconds)],
            images_per_second=images / median,
            peak_bytes=max(self.peaks),
            **self.limits,
        )


def contenders(options, mode, amp):
    engines = getattr(options, "engines", None) or ENGINES[options.device]
    copies = partial(at_once, getattr(options, "at_once", 1))
    yield Contender("unet", "unet", copies(partial(time_unet, options, mode, amp)))
    if options.device == "cuda":
        yield Contender("unet --xla", "unet", partial(time_unet, options, mode, amp, xla=True))
        for engine in engines:
            yield Contender(f"PyTorch {engine}", "stock", WaitingPeer(options, engine, mode, amp))
        return
    for engine in engines:
        peer = partial(time_peer, options, engine, mode, amp)
        if engine != "openvino":
            yield Contender(f"PyTorch {engine}", "stock", copies(peer))
            yield Contender(f"PyTorch {engine}, keeping allocator", "tuned", copies(partial(peer, KEEP_MEMORY)))
        elif mode == "predict" and not getattr(options, "avx2", False):
            yield Contender("OpenVINO", "tuned", copies(partial(peer, KEEP_MEMORY)))


def compare(options, work):
    """Times all contenders in one kind of work. A peer that fails is left out; unet must not fail.

    `options.minutes`, where given, bounds it: what was measured by then counts. Errors: unet without a round.
    """
    mode, amp = WORKS[work]
    field = list(contenders(options, mode, amp))
    minutes = getattr(options, "minutes", None)
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    try:
        run_rounds(options, work, field, deadline)
    finally:
        for contender in field:
            if isinstance(contender.measure, WaitingPeer):
                contender.measure.end()
    images = options.batch_size * getattr(options, "at_once", 1)
    rows = [contender.result(images) for contender in field if contender.seconds and not contender.error]
    best = {}
    for row in rows:
        best[row["group"]] = min(row["seconds"], best.get(row["group"], row["seconds"]))
    ratios = {group: seconds / best["unet"] for group, seconds in best.items() if group != "unet"}
    failed = {contender.name: contender.error for contender in field if contender.error}
    return dict(work=work, batch_size=options.batch_size, contenders=rows, ratios=ratios, failed=failed)


def run_rounds(options, work, field, deadline):
    for number in range(1, options.rounds + 1):
        for contender in field:
            if contender.error or contender.is_stopped:
                continue
            left = deadline - time.monotonic()
            try:
                if left <= 0:
                    raise TimeLimitError("no time left", 0)
                median = contender.take_turn(None if left == math.inf else left)
            except CommandError as error:
                # What was measured before counts where the time is up.
                contender.is_stopped = isinstance(error, TimeLimitError) and len(contender.seconds) > 0
                if contender.group == "unet" and not contender.is_stopped:
                    raise
                contender.error = None if contender.is_stopped else str(error)
                print(f"  {work}: {contender.name}: {error}", file=sys.stderr, flush=True)
                continue
            print(f"  {work} round {number}: {contender.name} {median:.3f} s", file=sys.stderr, flush=True)


def print_result(options, result):
    held = ", held to AVX2" if options.avx2 else ""
    copies = f", {options.at_once} at once" if options.at_once > 1 else ""
    setting = f"batch {options.batch_size}, {options.base_filters} filters, {options.device}{held}{copies}"
    print(f"\n{result['work']}, {setting}")
    for name in result["failed"]:
        print(f"  {name} failed")
    for row in result["contenders"]:
        share = ""
        if options.device == "cuda" and "tflops" in row:
            share = f"  {row['tflops']:.0f} TFLOP/s, {row['matmul_share']:.0f} %"
        print(
            f"  {row['name']:36} {row['seconds']:8.4f} s {row['images_per_second']:8.1f} img/s "
            f"{row['peak_bytes'] / 2**30:6.2f} GiB{share}"
        )
    ratios = sorted(result["ratios"].items())
    words = [f"{ratio:.2f} times as fast as the best {group} peer" for group, ratio in ratios]
    print("  " + ", ".join(words), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unet", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    for name, value in (("batch_size", 1), ("base_filters", 64), ("rounds", 3), ("warmup_steps", 1), ("steps", 3)):
        parser.add_argument("--" + name, type=int, default=value)
    engines = sorted({engine for names in ENGINES.values() for engine in names})
    parser.add_argument("--engines", nargs="+", choices=engines, help="peers to time; all of the device by default")
    parser.add_argument("--minutes", type=float, help="time for each kind of work; no limit by default")
    parser.add_argument("--avx2", action="store_true", help="CPU: hold all to AVX2 instructions, without OpenVINO")
    parser.add_argument(
        "--at_once", type=int, default=1, help="CPU: copies of each program that run together; images/s of all"
    )
    parser.add_argument("--json", help="also write the results to this file")
    options = parser.parse_args()
    unknown = set(options.engines or []) - set(ENGINES[options.device])
    if unknown:
        parser.error(f"--engines: {', '.join(sorted(unknown))} does not run on {options.device}")
    if options.device != "cpu" and (options.avx2 or options.at_once != 1):
        parser.error("--avx2 and --at_once are for --device cpu")
    if options.at_once < 1:
        parser.error("--at_once must be at least 1")
    if options.avx2:
        os.environ.update(HELD_TO_AVX2)
    results = []
    for work in options.works:
        try:
            results.append(compare(options, work))
        except CommandError as error:
            sys.exit(str(error))
        print_result(options, results[-1])
        if options.json:
            Path(options.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
