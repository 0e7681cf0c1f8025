#!/usr/bin/env python3
"""Times unet and its peers in turn and prints ratios of medians; started by scripts/bench/peers.sh.

Each round runs every contender once, in a process of its own: warm-up steps, then counted steps. The result is the
median of the counted steps of all rounds.
CPU: "tuned" peers run with an allocator that keeps freed memory, as unet's does; memory is that of the process.
GPU: unet runs without and with --xla, PyTorch eagerly and compiled in two modes; memory is that of the device.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from commands import KEEP_MEMORY, CommandError, flags, logged_values, run

# Each kind of work: --exec_mode, and whether with --amp.
WORKS = {
    "predict": ("predict", False),
    "predict_amp": ("predict", True),
    "train": ("train", False),
    "train_amp": ("train", True),
}
# What the benchmark tells about the limits of a device, where it knows them.
LIMITS = ("tflops", "matmul_tflops", "matmul_share", "traffic", "copy_traffic", "copy_share")


def time_unet(options, mode, amp, xla=False, environment=None):
    """Returns the median step in seconds, peak memory in bytes, and the limits of the device."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            options.unet,
            *flags(data_dir=options.data_dir, model_dir=f"{folder}/none", log_dir=folder),
            *flags(benchmark=True, exec_mode=mode, device=options.device, amp=amp, xla=xla),
            *flags(batch_size=options.batch_size, base_filters=options.base_filters),
            *flags(warmup_steps=options.warmup_steps, max_steps=options.warmup_steps + options.steps),
        ]
        run(command, environment)
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


def time_peer(options, engine, mode, amp, environment=None):
    """Returns all counted steps in seconds, peak memory in bytes, and no limits."""
    output, peak = run(peer_command(options, engine, mode, amp), environment)
    result = json.loads(output.splitlines()[-1])
    return result["seconds"], result["device_peak_bytes"] or peak, {}


class WaitingPeer:
    """PyTorch in a process that stays, as compiling takes minutes: it works when its turn comes and then waits."""

    def __init__(self, options, engine, mode, amp):
        self.command = peer_command(options, engine, mode, amp, on_request=True)
        self.process = None

    def __call__(self):
        if self.process is None:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.read_line("ready")
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        result = json.loads(self.read_line("{"))
        return result["seconds"], result["device_peak_bytes"], {}

    def read_line(self, start):
        for line in self.process.stdout:
            if line.startswith(start):
                return line
        raise CommandError(f"{' '.join(self.command)} ended with exit code {self.process.wait()}")

    def end(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()


class Contender:
    """One program and the times of its rounds. Ratios are made between the groups: unet, stock, tuned."""

    def __init__(self, name, group, measure):
        self.name, self.group, self.measure = name, group, measure
        self.seconds, self.peaks, self.limits, self.error = [], [], {}, None

    def take_turn(self):
        seconds, peak, limits = self.measure()
        self.seconds += seconds
        self.peaks.append(peak)
        self.limits.update(limits)
        return statistics.median(seconds)

    def result(self, batch_size):
        median = statistics.median(self.seconds)
        return dict(
            name=self.name,
            group=self.group,
            seconds=median,
            spread=[min(self.seconds), max(self.seconds)],
            images_per_second=batch_size / median,
            peak_bytes=max(self.peaks),
            **self.limits,
        )


def contenders(options, mode, amp):
    yield Contender("unet", "unet", partial(time_unet, options, mode, amp))
    if options.device == "cuda":
        yield Contender("unet --xla", "unet", partial(time_unet, options, mode, amp, xla=True))
        for engine in ("eager", "compile", "compile_max"):
            yield Contender(f"PyTorch {engine}", "stock", WaitingPeer(options, engine, mode, amp))
        return
    for engine in ("eager", "compile"):
        peer = partial(time_peer, options, engine, mode, amp)
        yield Contender(f"PyTorch {engine}", "stock", peer)
        yield Contender(f"PyTorch {engine}, keeping allocator", "tuned", partial(peer, KEEP_MEMORY))
    if mode == "predict":
        yield Contender("OpenVINO", "tuned", partial(time_peer, options, "openvino", mode, amp, KEEP_MEMORY))


def compare(options, work):
    """Times all contenders in one kind of work. A peer that fails is left out; unet must not fail."""
    mode, amp = WORKS[work]
    field = list(contenders(options, mode, amp))
    for number in range(1, options.rounds + 1):
        for contender in field:
            if contender.error:
                continue
            try:
                median = contender.take_turn()
            except CommandError as error:
                if contender.group == "unet":
                    raise
                contender.error = str(error)
                print(f"  {work}: {contender.name}: {error}", file=sys.stderr, flush=True)
                continue
            print(f"  {work} round {number}: {contender.name} {median:.3f} s", file=sys.stderr, flush=True)
    for contender in field:
        if isinstance(contender.measure, WaitingPeer):
            contender.measure.end()
    rows = [contender.result(options.batch_size) for contender in field if not contender.error]
    best = {}
    for row in rows:
        best[row["group"]] = min(row["seconds"], best.get(row["group"], row["seconds"]))
    ratios = {group: seconds / best["unet"] for group, seconds in best.items() if group != "unet"}
    failed = {contender.name: contender.error for contender in field if contender.error}
    return dict(work=work, batch_size=options.batch_size, contenders=rows, ratios=ratios, failed=failed)


def print_result(options, result):
    print(f"\n{result['work']}, batch {options.batch_size}, {options.base_filters} filters, {options.device}")
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
    parser.add_argument("--json", help="also write the results to this file")
    options = parser.parse_args()
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
