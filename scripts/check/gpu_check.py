#!/usr/bin/env python3
"""Runs unet on a GPU in parts and prints a table; started by scripts/check/gpu_check.sh.

A finished part leaves OUT/PART.json and is not run again, so that the same call goes on where the last one ended. One
call takes --minutes at most, with what it starts: training that does not end in time is stopped and continued from its
checkpoint by the next call. A part that fails costs no other. OUT/results.tar.gz has all results.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

from commands import CommandError, TimeLimitError
from gpu_parts.archive import write_archive
from gpu_parts.plan import BLOCKS, PARTS, chosen
from gpu_parts.runner import NotHereError, Runner
from gpu_parts.table import make_table, read_result
from peers import ENGINES

# A part that could not begin to do its work is not started.
LEAST_SECONDS = 5


def parse_options(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--block", nargs="+", choices=BLOCKS, help="parts of docs/gpu.md: A, B, C, D")
    which.add_argument("--parts", nargs="+", metavar="PART", help=f"all by default: {', '.join(PARTS)}")
    parser.add_argument("--again", action="store_true", help="run finished parts again")
    parser.add_argument("--minutes", type=float, default=9, help="time for this call (default 9)")
    budget = "time for all calls with this OUT together: parts for which it does not suffice are left out"
    parser.add_argument("--budget_minutes", type=float, help=budget)
    parser.add_argument("--tests", type=Path, help="binary of the tests (default: unet-tests beside BINARY)")
    parser.add_argument("--device", default="cuda", choices=ENGINES, help="cpu tries the script itself")
    parser.add_argument("--base_filters", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=8, help="of trainings")
    parser.add_argument("--max_steps", type=int, default=6400, help="of the folds")
    parser.add_argument("--native_steps", type=int, default=3000, help="of the native recipe")
    parser.add_argument(
        "--patch", type=int, help="of the native recipe, to try the script (default: that of the recipe)"
    )
    parser.add_argument("--short_steps", type=int, default=20, help="steps of the runs that check results")
    timing = dict(rounds=2, warmup_steps=30, steps=100)
    for name, value in timing.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"of parts that take times (default {value})")
    parser.add_argument("--engines", nargs="+", help="PyTorch's engines of the speed parts (default: eager compile)")
    options = parser.parse_args(arguments)
    # As an absolute path: a bare name would be looked up on the PATH.
    for name in ("binary", "data", "out"):
        setattr(options, name, getattr(options, name).resolve())
    if not options.binary.is_file():
        parser.error(f"no program '{options.binary}'")
    options.tests = (options.tests or options.binary.with_name("unet-tests")).resolve()
    for what, given, known in (
        ("parts", options.parts, PARTS),
        ("engines", options.engines, ENGINES[options.device]),
    ):
        unknown = sorted(set(given or []) - set(known))
        if unknown:
            parser.error(f"unknown {what} {', '.join(unknown)}; there are {', '.join(known)}")
    return options


class Budget:
    """Time for all calls on one OUT, kept in OUT/spent.txt."""

    def __init__(self, options):
        self.path = options.out / "spent.txt"
        self.begin = time.monotonic()
        self.earlier = float(self.path.read_text()) if self.path.exists() else 0.0
        self.total = 60 * options.budget_minutes if options.budget_minutes else float("inf")

    def seconds_left(self):
        return self.total - self.earlier - (time.monotonic() - self.begin)

    def save(self):
        self.path.write_text(f"{self.earlier + time.monotonic() - self.begin:.1f}\n")


def run_part(name, runner):
    """The result of a part. Whatever goes wrong in it is its result, so that the others run."""
    try:
        return PARTS[name].run(runner)
    except NotHereError as error:
        return dict(not_run=str(error), passed=False)
    except TimeLimitError as error:
        return dict(error=f"stopped: {error}", passed=False, is_stopped=True)
    except CommandError as error:
        return dict(error=str(error), passed=False)
    except Exception as error:  # the next parts have nothing to do with it
        return dict(error=f"{type(error).__name__}: {error}", passed=False)


def is_finished(path):
    return path.exists() and read_result(path).get("passed") is True


class Call:
    """One call: its parts, and what has become of them."""

    def __init__(self, options):
        self.options, self.names = options, chosen(options)
        self.budget = Budget(options)
        self.runner = Runner(options)
        self.runner.end = min(self.runner.end, time.monotonic() + self.budget.seconds_left())
        # Parts for which the budget does not suffice; parts for the next call; whether one has failed.
        self.left_out, self.waiting, self.failed = [], [], False

    def run(self):
        worked = False
        for name in self.names:
            path = self.options.out / f"{name}.json"
            if is_finished(path) and not self.options.again:
                continue
            left, estimate = self.runner.seconds_left(), PARTS[name].seconds
            if estimate > self.budget.seconds_left():
                self.left_out.append(name)
                continue
            can_continue = name.startswith(("fold", "native"))
            if left < LEAST_SECONDS or (estimate > left and worked and not can_continue):
                self.waiting.append(name)
                continue
            worked = True
            begin = time.monotonic()
            print(f"{name} ...", file=sys.stderr, flush=True)
            result = run_part(name, self.runner)
            if result.pop("is_stopped", False) and can_continue:
                self.waiting.append(name)
                self.say(name, "stopped with a checkpoint", begin)
                continue
            path.write_text(json.dumps(result, indent=1))
            self.failed |= not result["passed"] and "not_run" not in result
            self.say(name, "done" if result["passed"] else result.get("not_run", "NOT PASSED"), begin)

    def say(self, name, verdict, begin):
        """Tells of a part, and saves all that is known by now."""
        print(f"{name}: {verdict} in {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
        self.write_table()

    def write_table(self):
        self.budget.save()
        known = [name for name in PARTS if name in self.names or (self.options.out / f"{name}.json").exists()]
        text = make_table(self.options.out, known, self.left_out)
        (self.options.out / "table.md").write_text(text + "\n")
        return text


def stop(number, _frame):
    """Ends the call, and with it the programs that it has started."""
    sys.exit(128 + number)


def main():
    options = parse_options()
    options.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, stop)
    call = Call(options)
    try:
        call.run()
    finally:
        text = call.write_table()
        archive, left_out = write_archive(options.out)
        print(text)
        print(f"\narchive: {archive}, {archive.stat().st_size / 2**20:.1f} MiB", file=sys.stderr)
        if left_out:
            print(f"not in the archive: {', '.join(left_out)}", file=sys.stderr)
        if call.waiting:
            print(f"too little time left: {', '.join(call.waiting)}; call again to continue", file=sys.stderr)
    sys.exit(1 if call.failed else 0)


if __name__ == "__main__":
    main()
