#!/usr/bin/env python3
"""Makes docs/accuracy.md's tables and plots from a list of experiments; started by scripts/bench/accuracy.sh.

One run at a time. A row that is there with the same flags, program version and data is not made again, and a stopped
run goes on from its checkpoint, so the script can be stopped at any time and started again. Each finished row is a JSON
file in --rows; tables and plots are made anew after each, and by --tables alone.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from accuracy_parts import experiments, plots, rows, tables
from accuracy_parts.datasets import Datasets
from accuracy_parts.experiments import ListError
from accuracy_parts.machine import ROOT
from accuracy_parts.runs import Clock, Runs, StopSignalError
from commands import CommandError


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unet", required=True, type=Path, help="the program; accuracy.sh gives it")
    parser.add_argument("--list", type=Path, default=ROOT / "scripts/bench/accuracy.toml", help="TOML or JSON")
    parser.add_argument("--data_dir", type=Path, default=ROOT.parent / "shared/isbi2012", help="the challenge's stacks")
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=DIR", help="other datasets [beside --data_dir]")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs/accuracy", help="folder for the runs")
    parser.add_argument("--rows", type=Path, default=ROOT / "docs/accuracy/rows", help="folder for finished rows")
    parser.add_argument("--doc", type=Path, default=ROOT / "docs/accuracy.md", help="page whose tables are made")
    parser.add_argument("--pictures", type=Path, default=ROOT / "docs/pictures", help="folder for the plots")
    parser.add_argument("--only", nargs="+", metavar="GROUP", help="groups of the list to run")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="experiments of the list to run")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="only rows of these seeds")
    parser.add_argument("--max_minutes", type=float, help="start no run after so many minutes")
    parser.add_argument("--left", action="store_true", help="only print what is left to do")
    parser.add_argument("--tables", action="store_true", help="only make tables and plots from the rows that are there")
    return parser.parse_args(arguments)


class Harness:
    def __init__(self, options):
        self.options = options
        self.list = experiments.read(options.list)
        folders = dict(pair.split("=", 1) for pair in options.data)
        folders = {name: Path(folder).resolve() for name, folder in folders.items()}
        runs = options.runs.resolve()
        datasets = Datasets(options.data_dir.resolve(), folders, self.list.data, runs / "data")
        self.runs = Runs(options.unet.resolve(), runs, datasets)
        self.clock = Clock(options.max_minutes)

    def open_jobs(self):
        """The jobs whose row is not there, or not current."""
        for job in self.list.jobs(self.options.only, self.options.names, self.options.seeds):
            try:
                versions = self.runs.versions(job.trainings, job.experiment.data)
            except FileNotFoundError as error:
                print(f"left out: {job.name}: {error}", file=sys.stderr)
                continue
            if not rows.is_current(job, rows.load(self.options.rows, job), versions):
                yield job

    def make(self, job):
        """Trains, scores and writes the row. Returns whether it did: not after the time is over."""
        for training in job.trainings:
            for missing in self.runs.missing(training):
                if self.clock.is_over():
                    return False
                print(f"training {missing.name}, seed {missing.seed}: {self.runs.folder(missing)}", flush=True)
                self.runs.train(missing)
        row = rows.make(job, self.runs, *self.runs.score(job))
        self.options.rows.mkdir(parents=True, exist_ok=True)
        path = self.options.rows / f"{job.name}.json"
        path.write_text(json.dumps(row, indent=1) + "\n")
        print(f"{path}: V_Rand {row['scores']['v_rand_thin']:.4f}", flush=True)
        return True

    def make_all(self):
        """Makes what is left. Returns the jobs that failed."""
        failed = []
        for job in self.open_jobs():
            try:
                if not self.make(job):
                    break
            except CommandError as error:
                print(f"{job.name} failed: {error}", file=sys.stderr, flush=True)
                failed.append(job)
                continue
            write_tables(self.list, self.options)
        return failed

    def print_left(self):
        """Rows that are missing, with the time of their trainings; a training that two rows share counts once."""
        total, unknown, counted = 0.0, False, []
        for job in self.open_jobs():
            missing = [each for training in job.trainings for each in self.runs.missing(training)]
            own = [training for training in missing if training.wanted() not in counted]
            counted += [training.wanted() for training in own]
            every = self.list.experiments
            times = [rows.estimate_training(each, self.options.rows, self.runs, every) for each in own]
            known = sum(seconds for seconds in times if seconds)
            unknown |= None in times
            total += known
            words = "unknown time" if None in times else f"{known / 60:.0f} min"
            print(f"left: {job.name}: {words if own else 'only the score'}")
        if total or unknown:
            print(f"left: {'more than ' if unknown else 'about '}{total / 60:.0f} minutes of training")
        else:
            print("left: nothing to train")


def write_tables(listed, options):
    """Tables and plots from the rows that are there."""
    found = rows.of_list(options.rows, listed.experiments)
    text = tables.fill(options.doc.read_text(), found, listed.experiments, listed.groups, listed.targets)
    drawn = {}
    for group in listed.groups:
        # A plot for each group, as groups hold out different slices.
        own = [each for each in listed.experiments if each.group == group]
        drawn[f"accuracy_curves_{group}"] = plots.learning_curves(own, found)
        if group == "ablation":
            drawn["accuracy_ablation"] = plots.scores_by_experiment(own, found, tables.base_of(own))
    made = {name: svg for name, svg in drawn.items() if svg}
    for name, svg in made.items():
        options.pictures.mkdir(parents=True, exist_ok=True)
        (options.pictures / f"{name}.svg").write_text(svg)
    folder = os.path.relpath(options.pictures, options.doc.parent)
    options.doc.write_text(tables.show_pictures(text, folder, made))


def interrupt(number, _frame):
    raise StopSignalError(signal.Signals(number).name)


def main(arguments=None):
    options = parse(arguments)
    if options.tables:
        write_tables(experiments.read(options.list), options)
        return 0
    harness = Harness(options)
    failed = []
    if not options.left:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, interrupt)
        failed = harness.make_all()
    harness.print_left()
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ListError, FileNotFoundError, ValueError) as error:
        sys.exit(f"accuracy: {error}")
    except StopSignalError as stop:
        sys.exit(f"accuracy: stopped by {stop}; start it again to go on")
