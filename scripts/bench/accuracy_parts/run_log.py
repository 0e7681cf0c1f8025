"""What a training has logged: time, from log.json, and validation scores, from learning_curves.csv."""

import csv
import json
from pathlib import Path

# Columns of learning_curves.csv that learning curves are drawn of.
CURVES = ("eval_dice_score", "v_rand_thin", "v_info_thin", "dice")


def training_time(path):
    """Times of a training by its log.json, without validation: `steps`, `seconds_per_step`, `seconds` for all steps,
    `validation_seconds`, and `starts`, which is above 1 if the run was stopped and resumed.

    Each start of a run writes its settings, then a record for some of its steps, with the seconds since the process
    began. A resumed run does some steps twice, so its seconds are steps times the mean of all steps that were timed.
    """
    starts = last = timed_steps = 0
    seconds = validation = 0.0
    # Where the current interval began; the step is None where a resumed run does not tell it.
    step, moment = None, 0.0
    for record in records(path):
        at, now = record["step"], float(record["elapsedtime"])
        if at == "PARAMETER":
            starts += 1
            step, moment = (0 if starts == 1 else None), now
        elif at and "eval_total_loss" in record["data"]:
            validation += now - moment
            moment = now
        elif at and "train_total_loss" in record["data"]:
            if step is not None and at[0] > step:
                timed_steps += at[0] - step
                seconds += now - moment
            step, moment = at[0], now
            last = max(last, step)
    if not timed_steps:
        raise ValueError(f"'{path}' has no two records of training steps to tell the time by")
    return dict(
        steps=last,
        seconds_per_step=seconds / timed_steps,
        seconds=seconds / timed_steps * last,
        validation_seconds=validation,
        starts=starts,
    )


def records(path):
    """The records of a log.json in order; what a killed process has not finished is left out."""
    for line in Path(path).read_text().splitlines():
        try:
            record = json.loads(line.removeprefix("DLLL "))
        except ValueError:
            continue
        if record.get("type") == "LOG":
            yield record


def validation_curve(path):
    """Validation scores by step, as lists of one length; empty where there was no validation."""
    if not Path(path).exists():
        return {}
    with open(path, newline="") as file:
        # A row without validation has the columns empty; of two rows of a step the later one counts.
        rows = {int(row["step"]): row for row in csv.DictReader(file) if row.get("eval_dice_score")}
    if not rows:
        return {}
    names = [name for name in CURVES if all(row.get(name) for row in rows.values())]
    steps = sorted(rows)
    return dict(step=steps) | {name: [round(float(rows[step][name]), 5) for step in steps] for name in names}
