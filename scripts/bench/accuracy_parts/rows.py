"""Finished rows: a small JSON for each job, which tables and plots are made of."""

import json
from datetime import date

from . import machine

# Places of files in a row's commands, in which no path of the machine stands.
DATA, RUNS = "DATA", "RUNS"


def load(folder, job):
    """The row of a job as it was written last; `None` where there is none."""
    path = folder / f"{job.name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def as_listed(job, row):
    """Whether a row was made with what the list asks for now, by whatever version and data."""
    return row is not None and row["wanted"] == json.loads(json.dumps(job.wanted()))


def is_current(job, row, versions):
    """Whether a job need not be done again: same flags, programs and data."""
    return as_listed(job, row) and row["versions"] == versions


def of_list(folder, experiments):
    """The rows of each experiment that are as the list asks for, by its name."""
    rows = {}
    for experiment in experiments:
        loaded = [(job, load(folder, job)) for job in experiment.jobs()]
        rows[experiment.name] = [row for job, row in loaded if as_listed(job, row)]
    return rows


def make(job, runs, scores, evaluation):
    """The row of a job; `evaluation` is the folder of the evaluation's files, `None` where `unet score` was used."""
    measured = [runs.measured(training) for training in job.trainings]
    experiment = job.experiment
    return dict(
        name=experiment.name,
        group=experiment.group,
        title=experiment.title,
        seeds=job.seeds,
        wanted=job.wanted(),
        versions=runs.versions(job.trainings, experiment.data),
        commands=commands(job, runs, measured),
        scores=scores,
        trainings=measured,
        evaluation_log_sha256=machine.sha256(evaluation / "log.json") if evaluation else None,
        program=runs.program,
        machine=machine.describe(),
        date=str(date.today()),
    )


def commands(job, runs, measured):
    """Command lines that repeat the row."""
    lines = []
    for training, times in zip(job.trainings, measured, strict=True):
        folder, data = place(training), f"{DATA}/{training.data}"
        if training.kind == "nnunet":
            command = runs.nnunet_command(training, data, folder)
            command[:2] = ["scripts/bench/nnunet_peer.py"]
        else:
            start = place(training.start) if training.start else None
            command = runs.training_command(training, data, folder, start, times["steps"])
            command[0] = "unet"
        lines.append(command)
    first, data = job.trainings[0], f"{DATA}/{job.experiment.data}"
    if first.kind == "nnunet":
        files = (f"{place(first)}/{name}.tif" for name in ("labels", "probabilities"))
        lines.append(["unet", "score", "--labels", next(files), "--prediction", next(files)])
    else:
        others = [place(other) for other in job.trainings[1:]]
        scored = runs.scoring_command(job.experiment.scoring(), first.seed, data, place(first), others)
        lines.append(["unet", *scored[1:]])
    return [" ".join(map(str, line)) for line in lines]


def place(training):
    return f"{RUNS}/{training.name}-seed{training.seed}"


def estimate_training(training, folder, runs, experiments):
    """Seconds that a training still takes by what was measured, or by the list; `None` where neither tells."""
    experiment = next(each for each in experiments if each.name == training.name)
    whole = None if training.minutes is None else 60 * training.minutes
    if whole is None:
        same = [row for job in experiment.jobs() if as_listed(job, row := load(folder, job))]
        times = [row["trainings"][0]["seconds"] for row in same]
        whole = sum(times) / len(times) if times else None
    if whole is None and experiment.estimate_minutes is not None:
        whole = 60 * experiment.estimate_minutes
    steps = runs.known_steps(training)
    return whole * (1 - runs.steps_done(training) / steps) if whole and steps else whole
