#!/usr/bin/env python3
"""Runs of `unet` that share their cores: two and three trainings at once, and one beside a busy program.

Usage: shared_cores.py UNET DATA_DIR [--base_filters 16] [--batch_size 2] [--steps 40] [--rounds 2] [--works WORK ...]

Prints what all runs make together in images per second, and its ratio to one run alone; for the busy neighbour, which
computes on one core without pause, how many times as long a step takes as alone. The rounds alternate, in one sitting.
The second table has the wait policy of OpenMP's threads that the run would have without its own rule.
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

from commands import flags

# Each work: how many runs, and whether a busy program computes beside them.
WORKS = {"alone": (1, False), "two": (2, False), "three": (3, False), "busy": (1, True)}
# Any choice of the user turns the program's own rule off; this one is libgomp's default for two cores.
WITHOUT_RULE = {"GOMP_SPINCOUNT": "300000"}


def start(options, model_dir, environment):
    words = flags(
        data_dir=options.data_dir,
        model_dir=model_dir,
        exec_mode="train",
        benchmark=True,
        warmup_steps=6,
        max_steps=options.steps,
        base_filters=options.base_filters,
        batch_size=options.batch_size,
        device="cpu",
        amp=options.amp,
    )
    # A wait policy of the user's own turns the program's rule off.
    own = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    return subprocess.Popen(
        [options.unet, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**own, **environment}
    )


def together(options, runs, environment, neighbour=False):
    """Images per second of `runs` runs that start at once, added up."""
    with tempfile.TemporaryDirectory() as work:
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if neighbour else None
        try:
            processes = [start(options, pathlib.Path(work, str(index)), environment) for index in range(runs)]
            outputs = [process.communicate()[0] for process in processes]
        finally:
            if busy:
                busy.kill()
                busy.wait()
    rates = [re.search(r"throughput_train ([0-9.]+)", output) for output in outputs]
    if not all(rates):
        raise SystemExit("\n".join(outputs))
    return sum(float(rate[1]) for rate in rates)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("unet", type=pathlib.Path)
    parser.add_argument("data_dir", type=pathlib.Path)
    parser.add_argument("--base_filters", type=int, default=16)
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS), help="beside `alone`, which all need")
    options = parser.parse_args()
    options.unet = options.unet.resolve()
    policies = {"as it comes": {}, "without the rule": WITHOUT_RULE}
    works = {name: work for name, work in WORKS.items() if name in ["alone", *options.works]}
    found = {(policy, work): [] for policy in policies for work in works}
    for _ in range(options.rounds):
        for work, (runs, neighbour) in works.items():
            for policy, environment in policies.items():
                rate = together(options, runs, environment, neighbour)
                print(f"{work}, {policy}: {rate:.2f} images/s", file=sys.stderr)
                found[policy, work].append(rate)
    for policy in policies:
        print(f"\n| {policy} | images/s together | ratio to alone | rounds |\n|---|---|---|---|")
        alone = statistics.median(found[policy, "alone"])
        for work in works:
            rates = found[policy, work]
            ratio = statistics.median(rates) / alone
            rounds = ", ".join(f"{rate:.2f}" for rate in rates)
            print(f"| {work} | {statistics.median(rates):.2f} | {ratio:.2f} | {rounds} |")
    default = statistics.median(found["as it comes", "alone"])
    print(f"\nalone, with the rule / without: {default / statistics.median(found['without the rule', 'alone']):.3f}")


if __name__ == "__main__":
    main()
