#!/usr/bin/env python3
"""Kills trainings and predictions at random moments, and compares what they end with to unbroken runs, byte by byte.

Training has everything on: native recipe, augmentation, EMA, schedule, validation while it goes on, best weights, a
checkpoint each step; a part of the kills hits runs of two processes (the launcher or one of the ranks). A run that
comes to its end is compared and another one begun, until there were as many kills as asked for. Needs only the
standard library. Exit code 1, with what differs, at the first difference.

Usage: scripts/check/soak.py UNET [--kills 200] [--pair_kills 60] [--folder_kills 50] [--seed 1] [--work DIR]
"""

import argparse
import collections
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

STEPS = 24
TRAIN = (
    "--data_dir data --device cpu --base_filters 2 --batch_size 2 --seed 7 --log_every 5"
    f" --max_steps {STEPS} --checkpoint_every 1 --keep_checkpoints 2"
    " --recipe native --patch 36 --augment --rare_class_share 0.3 --border_weight 2"
    " --learning_rate 0.01 --schedule cosine --lr_warmup_steps 4 --ema 0.9"
    " --exec_mode train_and_evaluate --split disjoint --folds 3 --crossvalidation_idx 1"
    " --evaluate_every 3 --keep_best dice --weights best"
)
PREDICT = "--exec_mode predict --device cpu --model_dir unbroken --input images --save_probabilities"
# Files of a run that do not depend on when it was killed. Others have times in them.
RESULTS = ["model.safetensors", "best.safetensors", "confusion.csv"]
# A life that takes longer hangs.
LONGEST_LIFE_S = 300


class SoakError(Exception):
    """What went wrong, for the user."""


class Soak:
    """A folder with data, and how many kills there were."""

    def __init__(self, unet, seed):
        self.unet = unet
        self.random = random.Random(seed)
        self.counts = collections.Counter()
        # Idle threads sleep: the two cores of a small machine have other work.
        self.environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}

    def start(self, args):
        """The started program, whose messages go to files that no pipe can block."""
        with open("stdout.txt", "wb") as out, open("stderr.txt", "wb") as errors:
            return subprocess.Popen([self.unet, *args.split()], stdout=out, stderr=errors, env=self.environment)

    def finish(self, args):
        """Runs the program to its end, which must be a good one."""
        process = self.start(args)
        if wait(process) != 0:
            raise SoakError(f"exit code {process.returncode} of {args}\n{messages()}")

    def life(self, args, name, progress, start_s):
        """Starts the program and kills it at a random moment: half of the times soon after its first result, which
        `progress` counts, else anywhere in the first `start_s` seconds. Whether it had ended by itself."""
        process = self.start(args)
        before = progress()
        clock = Clock()
        limit_s = self.random.uniform(0, start_s)
        after_result = self.random.random() < 0.5
        while process.poll() is None:
            if after_result and progress() != before:
                time.sleep(self.random.uniform(0, 0.08))
                break
            if not after_result and clock.seconds > limit_s:
                break
            if clock.seconds > LONGEST_LIFE_S:
                process.kill()
                raise SoakError(f"no result after {LONGEST_LIFE_S} s of {args}\n{messages()}")
            clock.tick(process.pid, 0.002)
        workers = children(process.pid)
        victims = [process.pid, *workers] if process.poll() is None else []
        kind = self.random.choice(["SIGKILL", "SIGKILL", "SIGTERM"])
        if victims:
            os.kill(self.random.choice(victims), getattr(signal, kind))
        code = wait(process)
        wait_until_gone(workers)
        # It may have come to its end before the signal reached it.
        if code == 0:
            return True
        self.counts[f"{name}, {kind}"] += 1
        text = messages()
        if code == 128 + signal.SIGTERM and "stopped by SIGTERM after step" in text:
            self.counts["stopped with a checkpoint"] += 1
        # 128 + n: as told, or by the launcher; -n: before the program listens to signals. A rank whose partner was
        # killed ends with a code of its own.
        good = {-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM, 128 + signal.SIGKILL}
        if code not in good or any(word in text for word in ("checksum", "damaged", "panicked")):
            raise SoakError(f"exit code {code} after {kind}\n{text}")
        return False

    def kills(self, name):
        return sum(count for kind, count in self.counts.items() if kind.startswith(f"{name},"))

    def equal(self, name, what):
        """Counts an end that is that of an unbroken run."""
        self.counts[f"{name}: {what}"] += 1
        print(f"{name}: equal after {self.kills(name)} kills", flush=True)

    def train(self, name, kills, more):
        """Kills trainings until there were as many kills; `more` are further flags."""
        args = f"{TRAIN} {more}"
        folder = pathlib.Path("killed/checkpoints")
        began = time.monotonic()
        self.finish(f"{args} --model_dir unbroken --overwrite")
        start_s = time.monotonic() - began
        # Two processes make half as many steps of as many batches.
        results = [*RESULTS, f"checkpoints/{steps(pathlib.Path('unbroken/checkpoints'))[-1]}"]
        while self.kills(name) < kills:
            shutil.rmtree("killed", ignore_errors=True)
            done = False
            while not done and self.kills(name) < kills:
                resume = "--resume_training" if steps(folder) else "--overwrite"
                command = f"{args} --model_dir killed {resume}"
                ended = self.life(command, name, lambda: steps(folder), min(start_s, 2.0))
                self.counts["kills within the writing of a file"] += any(pathlib.Path("killed").rglob("*.tmp*"))
                done = ended and all((pathlib.Path("killed") / result).is_file() for result in results)
            if not done:
                resume = "--resume_training" if steps(folder) else "--overwrite"
                self.finish(f"{args} --model_dir killed {resume}")
            compare("unbroken", "killed", results)
            self.equal(name, "runs compared")

    def predict(self, kills):
        """Kills predictions of a folder until there were as many kills."""
        began = time.monotonic()
        self.finish(f"{PREDICT} --output whole --overwrite")
        start_s = time.monotonic() - began
        names = masks("whole")
        while self.kills("prediction") < kills:
            shutil.rmtree("parts", ignore_errors=True)
            done = False
            while not done and self.kills("prediction") < kills:
                command = f"{PREDICT} --output parts"
                done = self.life(command, "prediction", lambda: len(masks("parts")), min(start_s, 3.0))
                # What is there under its name is whole, at any moment.
                compare("whole", "parts", masks("parts"))
            if not done:
                self.finish(f"{PREDICT} --output parts")
            if masks("parts") != names:
                raise SoakError(f"masks of the killed prediction: {masks('parts')}, expected {names}")
            compare("whole", "parts", names)
            left = [path.name for path in pathlib.Path("parts").iterdir() if ".tmp" in path.name]
            if left:
                raise SoakError(f"temporary files are left: {left}")
            self.equal("prediction", "folders compared")


class Clock:
    """Seconds in which a process could run: not those in which somebody has paused it (SIGSTOP)."""

    def __init__(self):
        self.seconds = 0.0
        self.last = time.monotonic()

    def tick(self, pid, pause_s):
        """Waits a little."""
        time.sleep(pause_s)
        now = time.monotonic()
        if state(pid) != "T":
            self.seconds += now - self.last
        self.last = now


def wait(process):
    """The exit code of a process, for which it is waited."""
    clock = Clock()
    while process.poll() is None:
        if clock.seconds > LONGEST_LIFE_S:
            process.kill()
            raise SoakError(f"still running after {LONGEST_LIFE_S} s\n{messages()}")
        clock.tick(process.pid, 0.005)
    return process.returncode


def children(pid):
    """Process ids of the workers of a launcher."""
    try:
        return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def state(pid):
    """The letter of a process's state in ps; Z and X: it has ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "X"


def wait_until_gone(pids):
    """Waits for workers whose launcher was killed: they end by themselves."""
    for pid in pids:
        clock = Clock()
        while state(pid) not in "ZX":
            if clock.seconds > 60:
                raise SoakError(f"a worker lives on a minute after its launcher: {pid}")
            clock.tick(pid, 0.01)


def messages():
    return pathlib.Path("stderr.txt").read_text(errors="replace")


def steps(folder):
    """Names of the checkpoints in a folder."""
    return sorted(path.name for path in folder.glob("step-*.safetensors"))


def masks(folder):
    """Names of the masks and probabilities in a folder that are there under their own names."""
    found = pathlib.Path(folder).glob("*") if pathlib.Path(folder).is_dir() else []
    names = (path.name for path in found if path.suffix in (".png", ".tif"))
    return sorted(name for name in names if not name.startswith(("unet-", ".")))


def compare(one, other, names):
    """Fails unless both folders have the same bytes in these files."""
    for name in names:
        if not (pathlib.Path(other) / name).is_file():
            raise SoakError(f"'{other}/{name}' is not there")
        if (pathlib.Path(one) / name).read_bytes() != (pathlib.Path(other) / name).read_bytes():
            raise SoakError(f"'{other}/{name}' differs from that of the unbroken run")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("unet", type=pathlib.Path, help="the built program")
    parser.add_argument("--kills", type=int, default=200, help="kills of trainings")
    parser.add_argument("--pair_kills", type=int, default=60, help="those of them that hit runs of two processes")
    parser.add_argument("--folder_kills", type=int, default=50, help="kills of predictions of a folder")
    parser.add_argument("--seed", type=int, default=1, help="seed of the moments")
    parser.add_argument("--work", type=pathlib.Path, help="folder to work in, which is kept [default: a temporary one]")
    args = parser.parse_args()
    unet = str(args.unet.resolve())
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.work or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        soak = Soak(unet, args.seed)
        began = time.monotonic()
        try:
            soak.finish("phantom --out data --slices 6 --size 64 --overwrite")
            soak.finish("phantom --layout folders --out pictures --slices 40 --size 64 --overwrite")
            shutil.copytree("pictures/test", "images", dirs_exist_ok=True)
            soak.train("one process", args.kills - args.pair_kills, "")
            soak.train("two processes", args.pair_kills, "--nproc_per_node 2")
            soak.predict(args.folder_kills)
        except SoakError as failure:
            sys.exit(f"soak: {failure}\nsoak: after {dict(soak.counts)}")
        for name, count in sorted(soak.counts.items()):
            print(f"{name}: {count}")
        print(f"all ends equal unbroken runs, after {time.monotonic() - began:.0f} s")
        os.chdir("/")


if __name__ == "__main__":
    main()
