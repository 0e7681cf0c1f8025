#!/usr/bin/env python3
"""Trains nnU-Net v2's own 2D configuration on stacks in the challenge's layout, and predicts a block of slices.

Usage: scripts/bench/nnunet_peer.py --data_dir DATA --work DIR --minutes 60 --fold 0 [--folds 5]

The slices of the fold are held out as by `unet --split blocks`: nnU-Net neither plans nor trains with them. All others
are trained on (its fold "all"), for a given time (nnunet_trainer/). Planning, training and prediction are nnU-Net's
commands with their defaults, on the CPU. A stopped run goes on where it was. DIR gets

    probabilities.tif, labels.tif   of the held-out slices, for `unet score`
    result.json                     what the planner chose, time, number of steps

Installs nnU-Net first (scripts/setup/nnunet.sh); needs numpy, Pillow and tifffile.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts/data"))
DATASET = "Dataset012_ISBI"
MODEL = "TimedTrainer__nnUNetPlans__2d"
# The functions behind nnU-Net's commands, whose starters know no PYTHONPATH.
COMMANDS = {
    "plan_and_preprocess": "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints:plan_and_preprocess_entry",
    "train": "nnunetv2.run.run_training:run_training_entry",
    "predict": "nnunetv2.inference.predict_from_raw_data:predict_entry_point",
}


def block(slices, fold, folds):
    """The slices that a fold holds out: `Folds::split` of src/data/folds.rs."""
    return range(fold * slices // folds, (fold + 1) * slices // folds)


def slice_name(number):
    return f"slice_{number:03}"


class Peer:
    def __init__(self, options):
        self.options, self.work = options, options.work.resolve()
        self.raw, self.preprocessed = self.work / "raw" / DATASET, self.work / "preprocessed" / DATASET
        self.model = self.work / "results" / DATASET / MODEL / "fold_all"
        self.predicted = self.work / "predicted"

    def nnunet(self, command, *words):
        """Runs one of nnU-Net's commands."""
        module, function = COMMANDS[command].split(":")
        code = f"from {module} import {function}; {function}()"
        packages = [ROOT / ".libtorch/site-packages", ROOT / ".libtorch/nnunet"]
        path = [*map(str, packages), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = dict(
            os.environ,
            PYTHONPATH=os.pathsep.join(path),
            nnUNet_raw=str(self.work / "raw"),
            nnUNet_preprocessed=str(self.work / "preprocessed"),
            nnUNet_results=str(self.work / "results"),
            nnUNet_extTrainer=str(Path(__file__).resolve().parent / "nnunet_trainer"),
            UNET_PEER_MINUTES=str(self.options.minutes),
            UNET_PEER_ITERATIONS=str(self.options.iterations),
        )
        subprocess.run([sys.executable, "-c", code, *map(str, words)], check=True, env=environment)

    def convert(self):
        """Writes the slices as PNG files, and from them nnU-Net's raw dataset."""
        import tifffile
        import to_nnunet
        from PIL import Image

        volume, labels = (tifffile.imread(self.options.data_dir / f"train-{name}.tif") for name in ("volume", "labels"))
        source = self.work / "slices"
        for folder, pages in (("images", volume), ("masks", labels)):
            (source / folder).mkdir(parents=True, exist_ok=True)
            for number, page in enumerate(pages):
                Image.fromarray(page).save(source / folder / f"{slice_name(number)}.png")
        held_out = block(len(volume), self.options.fold, self.options.folds)
        names = ",".join(map(slice_name, held_out))
        to_nnunet.main(
            [str(source), str(self.raw), "--labels", "background,inside", "--hold_out", names, "--overwrite"]
        )
        tifffile.imwrite(self.work / "labels.tif", labels[held_out.start : held_out.stop], photometric="minisblack")

    def collect(self):
        """Joins what nnU-Net has predicted to a stack of the probability of being inside a cell."""
        import numpy as np
        import tifffile

        pages = []
        for path in sorted(self.predicted.glob("*.npz")):
            # [classes, 1, H, W]
            pages.append(np.load(path)["probabilities"][1, 0].astype(np.float32).clip(0, 1))
        tifffile.imwrite(self.work / "probabilities.tif", np.stack(pages), photometric="minisblack")

    def run(self):
        self.work.mkdir(parents=True, exist_ok=True)
        prepared = self.work / "prepared"
        if not prepared.exists():
            self.convert()
            self.nnunet("plan_and_preprocess", "-d", 12, "-c", "2d", "--verify_dataset_integrity", "--clean")
            prepared.touch()
        if not (self.model / "spent.json").exists():
            goes_on = ["--c"] if any(self.model.glob("checkpoint_*.pth")) else []
            self.nnunet("train", 12, "2d", "all", "-tr", "TimedTrainer", "-device", "cpu", *goes_on)
        source = ["-i", self.raw / "imagesTs", "-o", self.predicted]
        network = ["-d", 12, "-c", "2d", "-f", "all", "-tr", "TimedTrainer"]
        self.nnunet("predict", *source, *network, "-device", "cpu", "--save_probabilities")
        self.collect()
        (self.work / "result.json").write_text(json.dumps(self.result(), indent=1) + "\n")

    def result(self):
        """What a row of docs/accuracy.md says of a training."""
        plans = json.loads((self.preprocessed / "nnUNetPlans.json").read_text())["configurations"]["2d"]
        architecture = plans["architecture"]["arch_kwargs"]
        spent = json.loads((self.model / "spent.json").read_text())
        logs = sorted(self.model.glob("training_log_*.txt"))
        planner = dict(
            patch_size=plans["patch_size"],
            batch_size=plans["batch_size"],
            network=plans["architecture"]["network_class_name"].split(".")[-1],
            stages=architecture["n_stages"],
            features=architecture["features_per_stage"],
            normalization=plans["normalization_schemes"],
        )
        return dict(
            spent,
            seconds_per_step=spent["seconds"] / spent["steps"],
            starts=len(logs),
            images_seen=spent["steps"] * plans["batch_size"],
            minutes_asked=self.options.minutes,
            planner=planner,
            version=next((ROOT / ".libtorch/nnunet").glob("nnunetv2-*.dist-info")).stem,
            threads=multiprocessing.cpu_count(),
            log_sha256=hashlib.sha256(b"".join(path.read_bytes() for path in logs)).hexdigest(),
            date=str(date.today()),
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True, help="of training, without validation and prediction")
    parser.add_argument("--fold", type=int, required=True, help="block of slices that is held out")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=10, help="batches between two of nnU-Net's own validations")
    options = parser.parse_args()
    subprocess.run([ROOT / "scripts/setup/nnunet.sh"], check=True)
    Peer(options).run()


if __name__ == "__main__":
    main()
