#!/usr/bin/env python3
"""Weak scaling of training on the CPU, unet beside PyTorch's DDP; started by scripts/bench/scaling.sh.

Every process has one thread and a batch of its own, so ideally a step takes as long with two processes as with one.
Efficiency is the median step of one process divided by that of several. One process is started plainly, several with
--nproc_per_node or torchrun. Each round runs every contender once, in turn.
"""

import argparse
import json
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

from commands import KEEP_MEMORY, flags, logged_values, run

ONE_THREAD = dict(OMP_NUM_THREADS="1")


def time_unet(options, processes):
    with tempfile.TemporaryDirectory() as folder:
        command = [
            options.unet,
            *flags(data_dir=options.data_dir, model_dir=f"{folder}/none", log_dir=folder, benchmark=True, device="cpu"),
            *flags(batch_size=options.batch_size, base_filters=options.base_filters, amp=options.amp),
            *flags(warmup_steps=options.warmup_steps, max_steps=options.warmup_steps + options.steps),
        ]
        if processes > 1:
            command += flags(nproc_per_node=processes)
        run(command, ONE_THREAD)
        return logged_values(folder)["latency_train_50"] / 1e3


def time_peer(environment, options, processes):
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", *flags(standalone=True, nproc_per_node=processes)]
    command += [
        Path(__file__).with_name("pytorch_peer.py"),
        "bench",
        *flags(mode="train", ddp=processes > 1, amp=options.amp),
        *flags(batch_size=options.batch_size, base_filters=options.base_filters),
        *flags(warmup_steps=options.warmup_steps, steps=options.steps),
    ]
    output, _ = run(command, {**ONE_THREAD, **environment})
    return statistics.median(json.loads(output.splitlines()[-1])["seconds"])


CONTENDERS = {
    "unet": time_unet,
    "PyTorch DDP": partial(time_peer, {}),
    "PyTorch DDP, keeping allocator": partial(time_peer, KEEP_MEMORY),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unet", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--json", help="also write the results to this file")
    defaults = dict(processes=2, batch_size=1, base_filters=64, rounds=3, warmup_steps=2, steps=6)
    for name, value in defaults.items():
        parser.add_argument("--" + name, type=int, default=value)
    options = parser.parse_args()
    seconds = {(name, processes): [] for name in CONTENDERS for processes in (1, options.processes)}
    for number in range(1, options.rounds + 1):
        for (name, processes), times in seconds.items():
            times.append(CONTENDERS[name](options, processes))
            print(f"  round {number}: {name}, {processes} processes {times[-1]:.3f} s", file=sys.stderr, flush=True)
    print(
        f"\nSeconds per training step, 1 thread and batch {options.batch_size} per process, "
        f"{options.base_filters} filters{', --amp' if options.amp else ''}"
    )
    rows = []
    for name in CONTENDERS:
        one, many = (statistics.median(seconds[name, processes]) for processes in (1, options.processes))
        rows.append(dict(name=name, one=one, many=many, efficiency=one / many))
        print(
            f"  {name:32} 1 process {one:6.3f} s   {options.processes} processes {many:6.3f} s   "
            f"efficiency {one / many:.3f}"
        )
    if options.json:
        Path(options.json).write_text(json.dumps(dict(arguments=vars(options), rows=rows), indent=1) + "\n")


if __name__ == "__main__":
    main()
