"""The list of experiments: what is trained, by which flags, and how it is scored. TOML or JSON, checked when read.

`[group.NAME]` has what its experiments share: `title`, `flags`, and defaults of their keys. `[[experiment]]` has

    name, group, title   `name` becomes that of the rows' files
    from                 another experiment, whose own flags are taken over before those of `flags`
    flags                flags of unet; `false` takes one back
    seeds                a training for each
    minutes              in place of the flag max_steps: as many steps as a pilot says that these minutes take
    data                 a dataset, "isbi2012" by default
    kind                 "unet", or "nnunet" for nnU-Net v2 (scripts/bench/nnunet_peer.py)
    run_of               score the trainings of this experiment instead of training
    init_from            start from the weights of this experiment
    base                 true for the one that the others of its group are compared with
    tta, weights         flags of the evaluation
    ensemble             seeds whose networks are averaged, in one row
    estimate_minutes     for what is left to do, until there is a measured time

Flags are those of the group, then those of the experiment. `[data.NAME]` describes datasets that are made from others
(datasets.py), `[[target]]` what the results are held to (tables.py).
"""

import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

EXPERIMENT_KEYS = {"name", "group", "from", "flags", "base", "run_of", "init_from", "tta", "weights", "ensemble"}
# Keys that a group may set for all of its experiments.
SHARED_KEYS = {"title", "seeds", "minutes", "data", "kind", "estimate_minutes"}
TARGET_KEYS = {"title", "experiment", "score", "at_least", "at_most", "error_ratio_to", "ahead_of"}
# Flags that the harness sets itself.
OWN_FLAGS = {"seed", "data_dir", "model_dir", "log_dir", "exec_mode", "overwrite", "resume_training", "benchmark"}
# Flags of a training that its evaluation takes too.
EVALUATION_FLAGS = ("split", "folds", "crossvalidation_idx", "amp", "amp_dtype", "device", "tile", "memory_share")
LOG_EVERY = 20


class ListError(Exception):
    """A list of experiments that makes no sense."""


@dataclass(frozen=True)
class Training:
    """One training run. Two experiments that want the same share it."""

    kind: str
    # The name of the experiment that asks for it; the folder has it.
    name: str
    # Flags of the program, without those of files and modes.
    flags: dict
    seed: int
    minutes: float | None
    data: str
    # The training whose weights it starts from.
    start: "Training | None" = None

    def wanted(self):
        """What decides its result, apart from program and data: for JSON, and for comparison."""
        start = self.start.wanted() if self.start else None
        wanted = dict(kind=self.kind, flags=self.flags, seed=self.seed, minutes=self.minutes, data=self.data)
        return wanted | (dict(init_from=start) if start else {})

    @property
    def batch_size(self):
        return self.flags.get("batch_size", 1)


@dataclass
class Experiment:
    """A line of a table."""

    name: str
    group: str
    title: str
    flags: dict
    seeds: list
    minutes: float | None = None
    data: str = "isbi2012"
    kind: str = "unet"
    base: bool = False
    run_of: "Experiment | None" = None
    init_from: "Experiment | None" = None
    tta: bool = False
    weights: str | None = None
    ensemble: list = field(default_factory=list)
    estimate_minutes: float | None = None

    def training(self, seed):
        if self.run_of:
            return self.run_of.training(seed)
        start = None
        if self.init_from:
            seeds = self.init_from.seeds
            start = self.init_from.training(seed if seed in seeds else seeds[0])
        return Training(self.kind, self.name, self.flags, seed, self.minutes, self.data, start)

    def jobs(self):
        """A job for each seed; an ensemble is one job."""
        return [Job(self, seeds) for seeds in ([self.ensemble] if self.ensemble else [[seed] for seed in self.seeds])]

    def scoring(self):
        """The flags of the evaluation, beside those of files and the seed."""
        all_flags = (self.run_of.flags if self.run_of else {}) | self.flags
        flags = {name: all_flags[name] for name in EVALUATION_FLAGS if name in all_flags}
        return flags | (dict(tta=True) if self.tta else {}) | (dict(weights=self.weights) if self.weights else {})


@dataclass
class Job:
    """A row to make: trainings, and the scores of what they have made."""

    experiment: Experiment
    seeds: list

    @property
    def name(self):
        return f"{self.experiment.name}-seed{'-'.join(map(str, self.seeds))}"

    @property
    def trainings(self):
        return [self.experiment.training(seed) for seed in self.seeds]

    def wanted(self):
        """What decides the row, apart from program and data."""
        trainings = [training.wanted() for training in self.trainings]
        return dict(trainings=trainings, scoring=self.experiment.scoring(), data=self.experiment.data)


@dataclass
class ExperimentList:
    experiments: list
    # What the experiments of each group share, by the group's name.
    groups: dict
    # Descriptions of datasets that are made from others, by name.
    data: dict
    targets: list

    def jobs(self, groups=None, names=None, seeds=None):
        """All jobs, or those of some groups, experiments or seeds."""
        for wanted, known in ((groups, self.groups), (names, {each.name for each in self.experiments})):
            for name in wanted or []:
                if name not in known:
                    raise ListError(f"'{name}' is not in the list, which has {', '.join(sorted(known))}")
        chosen = [
            each
            for each in self.experiments
            if (not groups or each.group in groups) and (not names or each.name in names)
        ]
        every = [job for experiment in chosen for job in experiment.jobs()]
        return [job for job in every if seeds is None or set(job.seeds) <= set(seeds)]


def read(path):
    """The list in a file. Errors: ListError with the file and the experiment."""
    path = Path(path)
    try:
        return parse((json if path.suffix == ".json" else tomllib).loads(path.read_text()))
    except (ListError, ValueError) as error:
        raise ListError(f"cannot use '{path}': {error}") from error


def parse(content):
    """The list that a TOML or JSON document holds."""
    refuse_unknown("the list", content, {"group", "experiment", "data", "target"})
    groups = content.get("group", {})
    for name, group in groups.items():
        refuse_unknown(f"group '{name}'", group, SHARED_KEYS | {"flags"})
    experiments, own_flags = {}, {}
    for entry in content.get("experiment", []):
        experiment = parse_experiment(entry, groups, experiments, own_flags)
        experiments[experiment.name] = experiment
    if not experiments:
        raise ListError("it has no [[experiment]]")
    targets = content.get("target", [])
    for target in targets:
        refuse_unknown("a target", target, TARGET_KEYS)
        for key in {"experiment", "error_ratio_to", "ahead_of"} & target.keys():
            find(experiments, target[key], f"target '{target.get('title')}'")
    return ExperimentList(list(experiments.values()), groups, content.get("data", {}), targets)


def refuse_unknown(what, entry, known):
    unknown = sorted(entry.keys() - known)
    if unknown:
        raise ListError(f"{what} has '{unknown[0]}', expected some of {', '.join(sorted(known))}")


def find(experiments, name, what):
    if name not in experiments:
        raise ListError(f"{what} names '{name}', which does not come before it")
    return experiments[name]


def parse_experiment(entry, groups, experiments, own_flags):
    """Checks an entry; `own_flags` has the flags of each experiment without its group's, and gets those of this one."""
    name = entry.get("name", "")
    what = f"experiment '{name}'"
    refuse_unknown(what, entry, EXPERIMENT_KEYS | SHARED_KEYS)
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ListError(f"{what}: a name has small letters, digits and underscores")
    if name in experiments:
        raise ListError(f"{what} is there twice")
    group = groups.get(entry.get("group"))
    if group is None:
        raise ListError(f"{what} is of group '{entry.get('group')}', which is not there")
    base = find(experiments, entry["from"], what).name if "from" in entry else None
    own_flags[name] = own_flags.get(base, {}) | entry.get("flags", {})
    flags = group.get("flags", {}) | own_flags[name]
    others = {key: find(experiments, entry[key], what) for key in ("run_of", "init_from") if key in entry}
    plain = {key: entry[key] for key in ("base", "tta", "weights", "ensemble") if key in entry}
    shared = {key: value for key, value in (group | entry).items() if key in SHARED_KEYS}
    shared["title"] = entry.get("title", name)
    flags = {flag: value for flag, value in flags.items() if value is not False}
    experiment = Experiment(name=name, group=entry["group"], flags=flags, **dict(seeds=[0]) | shared, **plain, **others)
    check(experiment, what)
    return experiment


def check(experiment, what):
    flags = experiment.flags
    if OWN_FLAGS & flags.keys():
        raise ListError(f"{what}: '{min(OWN_FLAGS & flags.keys())}' is no flag for a list, the script sets it")
    if "crossvalidation_idx" not in flags:
        raise ListError(f"{what} has no crossvalidation_idx, which says what is held out")
    if experiment.kind not in ("unet", "nnunet"):
        raise ListError(f"{what} is of kind '{experiment.kind}', expected unet or nnunet")
    if experiment.kind == "nnunet" and (flags.get("split") != "blocks" or experiment.minutes is None):
        raise ListError(f"{what}: nnU-Net needs split = \"blocks\", and 'minutes'")
    if not experiment.run_of and ("max_steps" in flags) == (experiment.minutes is not None):
        raise ListError(f"{what} needs either the flag max_steps or 'minutes'")
    if flags.get("evaluate_every", 0) % flags.get("log_every", LOG_EVERY):
        every = flags.get("log_every", LOG_EVERY)
        raise ListError(f"{what}: evaluate_every must be a multiple of log_every, {every}, to tell its time apart")
