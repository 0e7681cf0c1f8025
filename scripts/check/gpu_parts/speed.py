"""Parts that take times."""

import argparse
import csv
import shutil
import statistics

from commands import TimeLimitError
from gpu_parts.runner import NotHereError
from peers import ENGINES, WORKS, compare, time_unet

KERNELS = ("own", "fused", "separate", "aten")


def peer_options(runner, batch_size, engines=None):
    """The options that peers.py asks for."""
    options = runner.options
    steps = dict(rounds=options.rounds, warmup_steps=options.warmup_steps, steps=options.steps)
    run = dict(unet=options.binary, data_dir=options.data, device=options.device)
    bounds = dict(engines=engines, minutes=max(1, runner.seconds_left()) / 60)
    return argparse.Namespace(batch_size=batch_size, base_filters=options.base_filters, **run, **steps, **bounds)


def speed(work, batch_size, runner):
    """unet beside PyTorch in turn, eager and compiled unless --engines says otherwise."""
    engines = runner.options.engines or ["eager", "compile"]
    return dict(speed=compare(peer_options(runner, batch_size, engines), work), passed=True)


def longest(work, batch_size, runner):
    """unet beside PyTorch compiled with max-autotune, which takes minutes."""
    if "compile_max" not in ENGINES[runner.options.device]:
        raise NotHereError("max-autotune is for a GPU")
    return dict(speed=compare(peer_options(runner, batch_size, ["compile_max"]), work), passed=True)


def kernels(work, batch_size, runner):
    """Each value of UNET_CUDA_KERNELS in turn: without --xla, so that launches of kernels count too, and with it."""
    mode, amp = WORKS[work]
    options = peer_options(runner, batch_size)
    times = {(kernel, xla): [] for kernel in KERNELS for xla in (False, True)}
    for number in range(options.rounds):
        try:
            for (kernel, xla), seconds in times.items():
                left = max(1, runner.seconds_left())
                seconds += time_unet(options, mode, amp, xla, dict(UNET_CUDA_KERNELS=kernel), left)[0]
        except TimeLimitError:
            # Whole rounds count.
            if number == 0:
                raise
            break
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
    steps = dict(benchmark=True, warmup_steps=options.warmup_steps, max_steps=options.warmup_steps + 1)
    text, _ = runner.unet(f"profile-{work}-{batch_size}", **run, **steps, batch_size=batch_size, profile=folder)
    with open(folder / f"profile_{'test' if mode == 'predict' else 'train'}.csv", newline="") as table:
        rows = [
            {key: value if key == "name" else float(value) for key, value in row.items()}
            for row in csv.DictReader(table)
        ]
    said = next(line for line in text.splitlines() if line.startswith("profile: "))
    return dict(profile=rows, said=said, work=work, batch_size=batch_size, passed=True)
