"""Trains and scores with unet and with nnU-Net, each run in a folder of its own, resumable and shared by experiments.

A folder's name ends with a checksum of what decides its run: flags, seed, program and data. So a changed list never
mixes with older runs, nor removes them.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

from commands import CommandError, end, flags, logged_values, start, wait

from . import machine, run_log
from .experiments import LOG_EVERY

PILOT_WARMUP, PILOT_STEPS = 5, 20
# Flags that do not change the time of a step, and that --benchmark has no use for.
NOT_IN_PILOT = {"evaluate_every", "keep_best", "patience", "max_steps", "log_every"}
SCORES = (
    "v_rand_thin",
    "v_info_thin",
    "rand_error_2012",
    "pixel_error_2012",
    "dice",
    "iou",
    "eval_dice_score",
    "eval_ce_loss",
    "eval_total_loss",
    "v_rand_thin_threshold",
    "v_info_thin_threshold",
)
NNUNET_PEER = machine.ROOT / "scripts/bench/nnunet_peer.py"
NNUNET_PINS = machine.ROOT / "scripts/setup/nnunet.txt"


class StopSignalError(Exception):
    """A signal has asked the script to stop."""


def execute(command, log):
    """Runs a command to its end; its output is added to the file `log`. Errors: CommandError with the last lines.

    When the script is interrupted, the command gets a SIGTERM, at which unet writes a checkpoint, and is waited for.
    """
    command = list(map(str, command))
    with open(log, "a") as output:
        output.write(f"$ {' '.join(command)}\n")
        output.flush()
        process = start(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            status, _ = wait(process)
        finally:
            end(process)
    if status:
        last = Path(log).read_text().splitlines()[-15:]
        raise CommandError(f"{' '.join(command)} ended with exit code {status}; {log} ends with\n" + "\n".join(last))


class Runs:
    """All runs below the folder `root`."""

    def __init__(self, unet, root, datasets):
        self.unet, self.root, self.datasets = unet, root, datasets
        self.program = machine.program(unet)

    def versions(self, trainings, data):
        """What else decides a row: the programs, and the data of trainings and evaluation."""
        programs = {self.program["version"]}
        names = {data}
        for training in trainings:
            while training:
                names.add(training.data)
                if training.kind == "nnunet":
                    programs.add(nnunet_version())
                training = training.start
        return dict(programs=sorted(programs), data={name: self.datasets.checksum(name) for name in sorted(names)})

    def folder(self, training):
        decides = [training.wanted(), self.versions([training], training.data)]
        checksum = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:10]
        known = sorted(self.root.glob(f"*-{checksum}"))
        return known[0] if known else self.root / f"{training.name}-seed{training.seed}-{checksum}"

    def is_trained(self, training):
        folder = self.folder(training)
        return (folder / ("result.json" if training.kind == "nnunet" else "model.safetensors")).exists()

    def missing(self, training):
        """The trainings that are still to be made for one, in their order."""
        before = self.missing(training.start) if training.start else []
        return before + ([] if self.is_trained(training) else [training])

    def steps_done(self, training):
        """The step of the newest checkpoint."""
        names = (self.folder(training) / "checkpoints").glob("step-*.safetensors")
        return max((int(path.stem.removeprefix("step-")) for path in names), default=0)

    def train(self, training):
        """Trains to the end, from the newest checkpoint where there is one."""
        folder = self.folder(training)
        folder.mkdir(parents=True, exist_ok=True)
        if training.kind == "nnunet":
            execute(self.nnunet_command(training, self.datasets.folder(training.data), folder), folder / "output.txt")
            return
        how = dict(resume_training=True)
        if not self.steps_done(training):
            how = dict(overwrite=True)
            # An older log goes: unet only adds to its log.
            (folder / "log.json").unlink(missing_ok=True)
        steps = self.max_steps(training)
        data = self.datasets.folder(training.data)
        command = self.training_command(training, data, folder, self.folder_of_start(training), steps)
        execute([*command, *flags(**how)], folder / "output.txt")

    def folder_of_start(self, training):
        return self.folder(training.start) if training.start else None

    def training_command(self, training, data, folder, start, max_steps):
        """`start` is the folder of the run whose weights it starts from."""
        own = training.flags | dict(max_steps=max_steps)
        started = dict(init_from=start) if start else {}
        files = dict(data_dir=data, model_dir=folder, log_dir=folder, exec_mode="train")
        return [self.unet, *flags(**files, **(dict(log_every=LOG_EVERY) | own), seed=training.seed, **started)]

    def max_steps(self, training):
        """The steps of a training: those of its flags, or as many as a pilot, made once, fits into its minutes."""
        if self.known_steps(training) is None:
            folder = self.folder(training)
            pilot = self.pilot(training, folder / "pilot")
            pilot["max_steps"] = steps_in(training.minutes, pilot["seconds_per_step"])
            (folder / "pilot.json").write_text(json.dumps(pilot, indent=1) + "\n")
        return self.known_steps(training)

    def known_steps(self, training):
        """The steps of a training; `None` before its pilot."""
        pilot = self.folder(training) / "pilot.json"
        if training.minutes is None:
            return training.flags["max_steps"]
        return json.loads(pilot.read_text())["max_steps"] if pilot.exists() else None

    def pilot(self, training, log_dir):
        """Times some steps of a training."""
        own = {name: value for name, value in training.flags.items() if name not in NOT_IN_PILOT}
        steps = dict(benchmark=True, warmup_steps=PILOT_WARMUP, max_steps=PILOT_WARMUP + PILOT_STEPS)
        files = dict(data_dir=self.datasets.folder(training.data), model_dir=log_dir, log_dir=log_dir)
        shutil.rmtree(log_dir, ignore_errors=True)
        log_dir.mkdir()
        execute([self.unet, *flags(**files, exec_mode="train", **own, **steps)], log_dir / "output.txt")
        seconds = training.batch_size / logged_values(log_dir)["throughput_train"]
        return dict(seconds_per_step=seconds, steps=PILOT_STEPS, machine=machine.describe(), date=str(date.today()))

    def score(self, job):
        """Scores a job whose trainings are made. Returns the scores, and the files that tell of the evaluation."""
        training = job.trainings[0]
        folder = self.folder(training)
        if training.kind == "nnunet":
            score = [self.unet, "score", "--labels", folder / "labels.tif"]
            scores = machine.output([*score, "--prediction", folder / "probabilities.tif", "--json"])
            return chosen(json.loads(scores)), None
        scoring = job.experiment.scoring()
        checksum = hashlib.sha256(json.dumps(job.wanted(), sort_keys=True).encode()).hexdigest()[:10]
        target = folder / f"score-{checksum}"
        link_weights(folder, target)
        (target / "log.json").unlink(missing_ok=True)
        others = [self.folder(other) for other in job.trainings[1:]]
        data = self.datasets.folder(job.experiment.data)
        command = self.scoring_command(scoring, training.seed, data, target, others)
        execute([*command, "--overwrite"], target / "output.txt")
        return chosen(json.loads((target / "eval.json").read_text())), target

    def scoring_command(self, scoring, seed, data, folder, others):
        files = dict(data_dir=data, model_dir=folder, log_dir=folder, exec_mode="evaluate")
        ensemble = ["--ensemble", *others] if others else []
        return [self.unet, *flags(**files, **scoring, seed=seed), *ensemble]

    def nnunet_command(self, training, data, folder):
        split = dict(fold=training.flags["crossvalidation_idx"], folds=training.flags.get("folds", 5))
        files = dict(data_dir=data, work=folder, minutes=training.minutes)
        return [sys.executable, NNUNET_PEER, *flags(**files, **split)]

    def measured(self, training):
        """What a row says of a training: its time, images, machine and logs."""
        folder = self.folder(training)
        if training.kind == "nnunet":
            return json.loads((folder / "result.json").read_text())
        times = run_log.training_time(folder / "log.json")
        pilot = folder / "pilot.json"
        config = json.loads((folder / "config.json").read_text())
        return dict(
            **times,
            images_seen=times["steps"] * training.batch_size,
            minutes_asked=training.minutes,
            pilot=json.loads(pilot.read_text()) if pilot.exists() else None,
            curve=run_log.validation_curve(folder / "learning_curves.csv"),
            log_sha256=machine.sha256(folder / "log.json"),
            device=config["device"],
            kernels=config.get("kernels"),
            libtorch=config["libtorch_version"],
            held_out=config["validation_slices"],
        )


def chosen(scores):
    return {name: scores[name] for name in SCORES if scores.get(name) is not None}


def link_weights(run, target):
    """A folder for the files of an evaluation, which leaves that of the run as training has left it."""
    target.mkdir(exist_ok=True)
    for name in ("model.safetensors", "best.safetensors", "config.json"):
        if (run / name).exists() and not (target / name).exists():
            (target / name).symlink_to(Path("..") / name)


def steps_in(minutes, seconds_per_step):
    """A number of steps that is easy to read, and not above what the time allows."""
    steps = int(60 * minutes / seconds_per_step)
    return max(steps // 10 * 10, 1)


def nnunet_version():
    pins = NNUNET_PINS.read_text().split()
    return next(pin.replace("==", " ") for pin in pins if pin.startswith("nnunetv2=="))


class Clock:
    """The time in which new runs may start."""

    def __init__(self, minutes):
        self.end = None if minutes is None else time.monotonic() + 60 * minutes

    def is_over(self):
        return self.end is not None and time.monotonic() >= self.end
