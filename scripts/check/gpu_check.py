#!/usr/bin/env python3
"""Runs unet on a GPU in parts and prints a table; started by scripts/check/gpu_check.sh.

A finished part leaves OUT/PART.json and is not run again. A part that does not end within the time left (--minutes) is
stopped, and the next call continues it from its checkpoint.
"""

import argparse
import csv
import json
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import torch

from commands import CommandError, flags, logged_values
from peers import WORKS, compare, time_unet

PUBLISHED = "| published, 1 to 8 GPUs | 0.8908 to 0.8942 | | | about 600 (A100) |"
SCORES = ["eval_dice_score", "v_rand_thin", "v_info_thin"]
# One comparison takes at most this long, compilation by PyTorch included.
SPEED_SECONDS = 300
KERNELS = ("own", "fused", "separate", "aten")


class OutOfTimeError(Exception):
    """A run was stopped because the time was up; it left a checkpoint. Holds the seconds that it ran."""


class Runner:
    def __init__(self, options):
        self.options = options
        self.end = time.monotonic() + 60 * options.minutes

    def folder(self, name, empty=False):
        folder = self.options.out / "runs" / name
        if empty:
            shutil.rmtree(folder, ignore_errors=True)
        return folder

    def unet(self, name, *words, **values):
        """Runs the program. Returns its output, also kept in OUT/logs, and its seconds."""
        log = self.options.out / "logs" / f"{name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        network = dict(device=self.options.device, base_filters=self.options.base_filters)
        command = [str(self.options.binary), *words, *flags(**network, **values)]
        start = time.monotonic()
        with open(log, "w") as output:
            print("$", *command, file=output, flush=True)
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            try:
                process.wait(max(1, self.end - start))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
                process.wait()
                raise OutOfTimeError(time.monotonic() - start) from None
        text = log.read_text()
        if process.returncode:
            raise CommandError(f"{name}: exit code {process.returncode}: {text.splitlines()[-1]}")
        return text, time.monotonic() - start

    def train(self, name, folder=None, **values):
        """A short training run. Returns its model folder."""
        folder = folder or self.folder(name)
        recipe = dict(max_steps=self.options.short_steps, augment=True, deterministic=True, log_every=10)
        self.unet(name, **{**recipe, **values, "data_dir": self.options.data, "model_dir": folder})
        return folder


def weights(path):
    """All numbers of a weight file in one row, as f64."""
    data = path.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    return torch.frombuffer(bytearray(data[start:]), dtype=torch.float32).double()


def limited(name, value, limit):
    """A row of the table: a value that must not exceed its limit."""
    return dict(name=name, value=value, limit=limit, passed=value <= limit)


def weight_difference(name, first, second, limit):
    """The norm of the difference of two models' weights, relative to the norm of the second's."""
    first, second = (weights(folder / "model.safetensors") for folder in (first, second))
    return limited(name, ((first - second).norm() / second.norm()).item(), limit)


def check(runner):
    """`unet check`: the device against float64, loss scaling, replayed steps."""
    try:
        text, seconds = runner.unet("check", "check", json=True)
    except CommandError:
        text, seconds = (runner.options.out / "logs" / "check.txt").read_text(), 0
        if "{" not in text:
            raise
    report, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
    rows = []
    for row in report["rows"]:
        # An infinite value is null in JSON.
        value = float("inf") if row["value"] is None else row["value"]
        rows.append(limited(row["name"], value, row["limit"]))
    return dict(rows=rows, passed=report["passed"], seconds=seconds)


def resume(runner):
    """A run that is resumed half-way ends with the weights of an unbroken one."""
    steps, rows = runner.options.short_steps, []
    half = steps // 2
    for precision, amp in (("float32", False), ("mixed precision", True)):
        whole = runner.train("whole", amp=amp, overwrite=True)
        broken = runner.folder("broken", empty=True)
        runner.train("first-half", amp=amp, max_steps=half, folder=broken)
        runner.train("second-half", amp=amp, resume_training=True, folder=broken)
        name = f"weights after {steps} steps in {precision}, resumed after {half}"
        rows.append(weight_difference(name, whole, broken, 0.0))
    return dict(rows=rows, passed=all(row["passed"] for row in rows))


def nccl(runner):
    """One process with the distributed engine computes the same as one without it."""
    alone = runner.train("alone", overwrite=True)
    group = runner.train("group", overwrite=True, nproc_per_node=1)
    name = f"weights after {runner.options.short_steps} steps, one process with and without its process group"
    row = weight_difference(name, alone, group, 1e-6)
    return dict(rows=[row], passed=row["passed"])


def start(runner):
    """Seconds from the start of the process, its loading included, to the end of the first training step."""
    rows = []
    for name, amp, xla in (
        ("float32", False, False),
        ("mixed precision", True, False),
        ("mixed precision with --xla", True, True),
    ):
        log = runner.folder("start")
        run = dict(data_dir=runner.options.data, model_dir=runner.folder("none", empty=True), log_dir=log)
        steps = dict(batch_size=runner.options.batch_size, benchmark=True, warmup_steps=1, max_steps=2)
        runner.unet("start", **run, **steps, amp=amp, xla=xla)
        seconds = logged_values(log)["first_step_after_train"]
        rows.append(limited(f"seconds from start to first step in {name}", seconds, 10.0))
    return dict(rows=rows, passed=all(row["passed"] for row in rows))


def continue_flags(folder):
    """Flags for a run whose folder may hold what an earlier call left there."""
    checkpoints = folder / "checkpoints"
    if (folder / "model.safetensors").exists():
        # The earlier call was stopped in the evaluation.
        return dict(exec_mode="evaluate", overwrite=True)
    if checkpoints.is_dir() and any(checkpoints.iterdir()):
        return dict(resume_training=True)
    return dict(overwrite=folder.exists())


def fold(number, precision, runner):
    """One fold with the flags of examples/unet_TRAIN_*_1GPU.sh."""
    name = f"fold{number}-{precision}"
    options, folder = runner.options, runner.folder(name)
    # Seconds of the calls that were stopped.
    stopped = runner.folder(f"{name}.seconds")
    earlier = json.loads(stopped.read_text()) if stopped.exists() else []
    recipe = dict(exec_mode="train_and_evaluate", crossvalidation_idx=number, augment=True, amp=precision == "amp")
    steps = dict(batch_size=options.batch_size, max_steps=options.max_steps, checkpoint_every=1000, xla=True)
    values = {**recipe, **steps, **continue_flags(folder)}
    try:
        _, seconds = runner.unet(name, data_dir=options.data, model_dir=folder, log_dir=folder / "log", **values)
    except OutOfTimeError as error:
        stopped.write_text(json.dumps([*earlier, error.args[0]]))
        raise
    scores = json.loads((folder / "eval.json").read_text())
    if (folder / "learning_curves.png").exists():
        curves = options.out / "curves"
        curves.mkdir(exist_ok=True)
        shutil.copy(folder / "learning_curves.png", curves / f"{name}.png")
    return dict(
        fold=number,
        precision=precision,
        seconds=sum(earlier) + seconds,
        resumed=len(earlier) > 0,
        scores={name: scores[name] for name in SCORES if name in scores},
        passed=True,
    )


def peer_options(runner, batch_size):
    """The options that peers.py asks for."""
    options = runner.options
    steps = dict(rounds=3, warmup_steps=options.short_steps, steps=2 * options.short_steps)
    run = dict(unet=options.binary, data_dir=options.data, device=options.device)
    return argparse.Namespace(batch_size=batch_size, base_filters=options.base_filters, **run, **steps)


def speed(work, batch_size, runner):
    """unet beside PyTorch, eager and compiled, in turn."""
    return dict(speed=compare(peer_options(runner, batch_size), work), passed=True)


def kernels(work, batch_size, runner):
    """Each value of UNET_CUDA_KERNELS in turn: without --xla, so that launches of kernels count too, and with it."""
    mode, amp = WORKS[work]
    options = peer_options(runner, batch_size)
    times = {(kernel, xla): [] for kernel in KERNELS for xla in (False, True)}
    for _ in range(options.rounds):
        for (kernel, xla), seconds in times.items():
            seconds += time_unet(options, mode, amp, xla, dict(UNET_CUDA_KERNELS=kernel))[0]
    rows = [
        dict(name=kernel + (" --xla" if xla else ""), seconds=statistics.median(seconds))
        for (kernel, xla), seconds in times.items()
    ]
    return dict(kernels=rows, work=work, batch_size=batch_size, passed=True)


def profile(work, batch_size, runner):
    """Time by the names of kernels, from the program's own --profile. The trace stays in OUT/profiles."""
    mode, amp = WORKS[work]
    options = runner.options
    folder = options.out / "profiles" / f"{work}-{batch_size}"
    shutil.rmtree(folder, ignore_errors=True)
    run = dict(data_dir=options.data, model_dir=runner.folder("none", empty=True), exec_mode=mode, amp=amp)
    steps = dict(benchmark=True, warmup_steps=options.short_steps, max_steps=options.short_steps + 1)
    text, _ = runner.unet(f"profile-{work}-{batch_size}", **run, **steps, batch_size=batch_size, profile=folder)
    with open(folder / f"profile_{'test' if mode == 'predict' else 'train'}.csv", newline="") as table:
        rows = [
            {key: value if key == "name" else float(value) for key, value in row.items()}
            for row in csv.DictReader(table)
        ]
    said = next(line for line in text.splitlines() if line.startswith("profile: "))
    return dict(profile=rows, said=said, work=work, batch_size=batch_size, passed=True)


# Kind of work and images in a batch. The first are those of the published figures and of this project's aims.
DETAILS = [("train_amp", 8), ("train_amp", 1), ("predict_amp", 1), ("predict_amp", 16), ("train", 8), ("predict", 16)]
OTHERS = [(work, size) for size in (2, 4, 16) for work in ("train_amp", "train", "predict_amp", "predict")]
OTHERS += [("train", 1), ("predict", 1), ("predict_amp", 8), ("predict", 8)]
SPEEDS = DETAILS + [pair for pair in OTHERS if pair not in DETAILS]


def make_parts():
    """All parts by name, in the order in which they run."""
    parts = dict(check=check, resume=resume, nccl=nccl, start=start)
    for number in range(5):
        parts[f"fold{number}-amp"] = partial(fold, number, "amp")
    parts["fold0-tf32"] = partial(fold, 0, "tf32")
    for part, pairs in ((profile, DETAILS), (kernels, DETAILS), (speed, SPEEDS)):
        for work, size in pairs:
            parts[f"{part.__name__}-{work}-{size}"] = partial(part, work, size)
    return parts


PARTS = make_parts()


def limit_lines(name, result):
    lines = []
    for row in result.get("rows", []):
        verdict = "ok" if row["passed"] else "NOT PASSED"
        lines.append(f"{verdict:10}  {row['name']}: {row['value']:.2g}, at most {row['limit']:.2g}")
    if "error" in result:
        lines.append(f"NOT PASSED  {name}: {result['error']}")
    return lines


def fold_lines(folds):
    lines = ["", f"| run | {' | '.join(SCORES)} | seconds |", "|---" * (len(SCORES) + 2) + "|"]
    for result in folds:
        scores = result["scores"]
        cells = [f"{scores[name]:.4f}" if name in scores else "" for name in SCORES]
        run = f"fold {result['fold']}, {result['precision']}"
        lines.append(f"| {run} | {' | '.join(cells)} | {result['seconds']:.0f} |")
    amp = [result for result in folds if result["precision"] == "amp"]
    if len(amp) > 1:
        cells = []
        for name in SCORES:
            values = [result["scores"][name] for result in amp if name in result["scores"]]
            cells.append(f"{statistics.mean(values or [float('nan')]):.4f}")
        seconds = statistics.mean(result["seconds"] for result in amp)
        lines.append(f"| mean of {len(amp)}, amp | {' | '.join(cells)} | {seconds:.0f} |")
    return [*lines, PUBLISHED]


def profile_lines(result):
    lines = ["", f"{result['work']}, batch {result['batch_size']}: {result['said']}"]
    lines += ["", "| kernel | calls | ms | % |", "|---|---|---|---|"]
    for row in result["profile"][:12]:
        cells = f"{row['calls_per_step']:.1f} | {row['ms_per_step']:.3f} | {row['percent']:.1f}"
        lines.append(f"| `{row['name'][:100]}` | {cells} |")
    return lines


def kernel_lines(result):
    cells = [f"{row['name']} {1e3 * row['seconds']:.2f}" for row in result["kernels"]]
    run = f"{result['work']}, batch {result['batch_size']}"
    return ["", f"{run}, ms a step by UNET_CUDA_KERNELS: {', '.join(cells)}"]


def speed_lines(result):
    head = [f"{result['work']}, batch {result['batch_size']}", "ms a step (least to most)", "img/s", "GiB"]
    head += ["TFLOP/s", "of products", "of copying", "unet is"]
    lines = [f"{name} failed" for name in result["failed"]]
    lines += ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    best = min(row["seconds"] for row in result["contenders"] if row["group"] == "unet")
    for row in result["contenders"]:
        least, most = (1e3 * seconds for seconds in row["spread"])
        cells = [row["name"], f"{1e3 * row['seconds']:.2f} ({least:.2f} to {most:.2f})"]
        cells += [f"{row['images_per_second']:.0f}", f"{row['peak_bytes'] / 2**30:.2f}"]
        for name, unit in (("tflops", ""), ("matmul_share", " %"), ("copy_share", " %")):
            cells.append(f"{row[name]:.0f}{unit}" if name in row else "")
        cells.append("" if row["group"] == "unet" else f"{row['seconds'] / best:.2f} times as fast")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def make_table(out):
    """The results of all finished parts, as Markdown."""
    results = {}
    for name in PARTS:
        path = out / f"{name}.json"
        if path.exists():
            results[name] = json.loads(path.read_text())
    lines = []
    for name, result in results.items():
        lines += limit_lines(name, result)
    folds = [result for result in results.values() if "scores" in result]
    if folds:
        lines += fold_lines(folds)
    for kind, make_lines in (("profile", profile_lines), ("kernels", kernel_lines)):
        for result in results.values():
            if kind in result:
                lines += make_lines(result)
    for result in results.values():
        if "speed" in result:
            lines += speed_lines(result["speed"])
    missing = [name for name in PARTS if name not in results]
    if missing:
        lines += ["", f"not run yet: {', '.join(missing)}"]
    return "\n".join(lines)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parts = (
        "parts to run; all by default: check, resume, nccl, start, fold0-amp ... fold4-amp, fold0-tf32, and "
        "profile-WORK-BATCH, kernels-WORK-BATCH, speed-WORK-BATCH with WORK train_amp, train, predict_amp, predict"
    )
    parser.add_argument("--parts", nargs="+", help=parts)
    parser.add_argument("--again", action="store_true", help="run finished parts again")
    parser.add_argument("--minutes", type=float, default=9, help="time for this call (default 9)")
    parser.add_argument("--device", default="cuda", help="cpu tries the script itself")
    parser.add_argument("--base_filters", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=8, help="of the folds")
    parser.add_argument("--max_steps", type=int, default=6400, help="of the folds")
    parser.add_argument("--short_steps", type=int, default=20, help="steps of the other runs")
    options = parser.parse_args()
    unknown = set(options.parts or []) - set(PARTS)
    if unknown:
        parser.error(f"unknown parts {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return options


def run_parts(options):
    """Runs the parts that are not finished, as far as the time goes. Returns whether one failed."""
    runner, failed, worked = Runner(options), False, False
    for name in options.parts or PARTS:
        path = options.out / f"{name}.json"
        if path.exists() and not options.again and json.loads(path.read_text())["passed"]:
            continue
        begin = time.monotonic()
        # PyTorch's compilation cannot be stopped and continued.
        if name.startswith("speed") and worked and runner.end - begin < SPEED_SECONDS:
            print(f"{name}: too little time left; call again to continue", file=sys.stderr)
            break
        worked = True
        try:
            result = PARTS[name](runner)
        except OutOfTimeError:
            print(f"{name}: no time left; call again to continue", file=sys.stderr)
            break
        except (CommandError, OSError, ValueError) as error:
            result = dict(error=str(error), passed=False)
        path.write_text(json.dumps(result, indent=1))
        failed |= not result["passed"]
        verdict = "done" if result["passed"] else "NOT PASSED"
        print(f"{name}: {verdict} in {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    return failed


def main():
    options = parse_options()
    options.out.mkdir(parents=True, exist_ok=True)
    failed = run_parts(options)
    text = make_table(options.out)
    (options.out / "table.md").write_text(text + "\n")
    print(text)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
