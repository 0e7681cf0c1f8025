"""The parts by name, in the order of their worth, and the blocks that fit one command each."""

from dataclasses import dataclass
from functools import partial

from gpu_parts import correctness, speed, training


@dataclass(frozen=True)
class Part:
    run: object
    # What it takes on an H100 or H200, by a model; nothing has been measured there yet.
    seconds: int


def timing(kind, work, batch_size, seconds):
    return f"{kind}-{work}-{batch_size}", Part(partial(getattr(speed, kind), work, batch_size), seconds)


def make_parts():
    """All parts: what a session with little time should know comes first."""
    parts = [
        ("check", Part(correctness.check, 70)),
        ("tests-own", Part(partial(correctness.tests, "own"), 60)),
        timing("speed", "train_amp", 8, 130),
        ("fold0-amp", Part(partial(training.fold, 0, "amp"), 150)),
        timing("speed", "predict_amp", 16, 100),
        timing("speed", "train_amp", 1, 110),
        timing("speed", "predict_amp", 1, 80),
        ("resume", Part(correctness.resume, 45)),
        timing("profile", "train_amp", 8, 20),
        timing("profile", "train_amp", 1, 15),
        timing("profile", "predict_amp", 16, 15),
        ("start", Part(correctness.start, 25)),
        ("tests-separate", Part(partial(correctness.tests, "separate"), 60)),
        ("nccl", Part(correctness.nccl, 30)),
        ("sanitizer", Part(correctness.sanitizer, 90)),
    ]
    parts += [(f"fold{number}-amp", Part(partial(training.fold, number, "amp"), 150)) for number in range(1, 5)]
    parts += [
        ("native-amp", Part(training.native, 200)),
        ("fold0-tf32", Part(partial(training.fold, 0, "tf32"), 260)),
        ("longest-train_amp-8", Part(partial(speed.longest, "train_amp", 8), 200)),
        ("tests-aten", Part(partial(correctness.tests, "aten"), 60)),
    ]
    named = dict(parts)
    details = [
        ("train_amp", 8),
        ("train_amp", 1),
        ("predict_amp", 1),
        ("predict_amp", 16),
        ("train", 8),
        ("predict", 16),
    ]
    sizes = [(work, size) for size in (1, 2, 4, 8, 16) for work in ("train_amp", "train", "predict_amp", "predict")]
    others = [timing("profile", *pair, 20) for pair in details]
    others += [timing("kernels", *pair, 250) for pair in details]
    others += [timing("speed", *pair, 120) for pair in sizes]
    # The first mention decides the place.
    return named | {name: part for name, part in others if name not in named}


PARTS = make_parts()
# Each block is one command of nine minutes. What it does not finish, the next call of the block does.
BLOCKS = dict(
    A=[
        "check",
        "tests-own",
        "tests-separate",
        "sanitizer",
        "resume",
        "nccl",
        "profile-train_amp-8",
        "profile-train_amp-1",
        "profile-predict_amp-16",
        "start",
    ],
    B=["speed-train_amp-8", "speed-train_amp-1", "speed-predict_amp-16", "speed-predict_amp-1"],
    C=["fold0-amp", "fold1-amp", "fold2-amp", "fold3-amp"],
    D=["fold4-amp", "native-amp", "fold0-tf32", "longest-train_amp-8"],
)


def chosen(options):
    """The names of the parts that a call is about, in the order in which they run."""
    if options.parts:
        return list(options.parts)
    if options.block:
        return [name for block in options.block for name in BLOCKS[block]]
    if options.budget_minutes:
        of_blocks = {name for names in BLOCKS.values() for name in names}
        return [name for name in PARTS if name in of_blocks]
    return list(PARTS)
