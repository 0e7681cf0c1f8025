"""Parts that train: the reference's folds, and the native recipe."""

import json
import shutil
from pathlib import Path

from accuracy_parts import experiments
from commands import TimeLimitError

SCORES = ["eval_dice_score", "v_rand_thin", "v_info_thin"]
EXPERIMENTS = Path(__file__).resolve().parents[2] / "bench" / "accuracy.toml"


def continue_flags(folder):
    """Flags for a run whose folder may hold what an earlier call left there."""
    checkpoints = folder / "checkpoints"
    if (folder / "model.safetensors").exists():
        # The earlier call was stopped in the evaluation.
        return dict(exec_mode="evaluate", overwrite=True)
    if checkpoints.is_dir() and any(checkpoints.iterdir()):
        return dict(resume_training=True)
    return dict(overwrite=folder.exists())


def train_and_evaluate(runner, name, **values):
    """A run that a later call goes on with where this one is stopped. Returns its seconds and scores."""
    options, folder = runner.options, runner.folder(name)
    # Seconds of the calls that were stopped.
    stopped = runner.folder(f"{name}.seconds")
    earlier = json.loads(stopped.read_text()) if stopped.exists() else []
    run = dict(data_dir=options.data, model_dir=folder, log_dir=folder / "log", exec_mode="train_and_evaluate")
    values = {**run, **values, "checkpoint_every": 1000, **continue_flags(folder)}
    try:
        _, seconds = runner.unet(name, **values)
    except TimeLimitError as error:
        stopped.parent.mkdir(parents=True, exist_ok=True)
        stopped.write_text(json.dumps([*earlier, error.seconds]))
        raise
    scores = json.loads((folder / "eval.json").read_text())
    if (folder / "learning_curves.png").exists():
        curves = options.out / "curves"
        curves.mkdir(exist_ok=True)
        shutil.copy(folder / "learning_curves.png", curves / f"{name}.png")
    return dict(
        seconds=sum(earlier) + seconds,
        resumed=len(earlier) > 0,
        scores={name: scores[name] for name in SCORES if name in scores},
        passed=True,
    )


def fold(number, precision, runner):
    """One fold with the flags of examples/unet_TRAIN_*_1GPU.sh."""
    options = runner.options
    recipe = dict(crossvalidation_idx=number, augment=True, amp=precision == "amp", xla=True)
    steps = dict(batch_size=options.batch_size, max_steps=options.max_steps)
    found = train_and_evaluate(runner, f"fold{number}-{precision}", **recipe, **steps)
    # Whether the run is the published one.
    comparable = (options.base_filters, options.batch_size, options.max_steps) == (64, 8, 6400)
    return dict(fold=number, precision=precision, run=f"fold {number}, {precision}", comparable=comparable, **found)


def native(runner):
    """The native recipe by the flags of the experiment `final_native`, on its test block."""
    options = runner.options
    listed = experiments.read(EXPERIMENTS).experiments
    flags = next(experiment for experiment in listed if experiment.name == "final_native").flags
    own = dict(base_filters=options.base_filters, batch_size=options.batch_size, max_steps=options.native_steps)
    if options.patch:
        own["patch"] = options.patch
    found = train_and_evaluate(runner, "native-amp", **{**flags, **own, "amp": True})
    return dict(run=f"native recipe, test block, {options.native_steps} steps", precision="amp", **found)
