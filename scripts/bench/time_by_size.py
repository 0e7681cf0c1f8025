#!/usr/bin/env python3
"""Time per image by batch size, by number of slices and by slice size; started by scripts/bench/time_by_size.sh.

Writes OUT/time_by_size.json and OUT/time_by_size.png. The slices are those of `unet phantom`, repeated or cut.
A level line means that time grows linearly with the amount of data; a falling line is better. Against the side of a
slice, time that is linear in pixels has a slope of 2.
"""

import argparse
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import tifffile

from commands import CommandError, flags, logged_values, run


def make_dataset(phantom, folder, slices, size):
    """Writes the phantom's slices, repeated to `slices` and tiled or cut to `size` x `size`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train-volume", "train-labels", "test-volume"):
        pages = tifffile.imread(phantom / f"{name}.tif")
        tiles = -(-size // pages.shape[1])
        with tifffile.TiffWriter(folder / f"{name}.tif") as file:
            for number in range(slices):
                file.write(np.tile(pages[number % len(pages)], (tiles, tiles))[:size, :size], contiguous=True)
    return folder


def step_seconds(options, data, mode, filters, batch_size=1):
    """Seconds per image: the median of the counted steps."""
    with tempfile.TemporaryDirectory() as log:
        steps = dict(warmup_steps=1, max_steps=1 + options.steps)
        command = flags(data_dir=data, model_dir=f"{log}/none", log_dir=log, exec_mode=mode, benchmark=True, **steps)
        run([options.unet, *command, *flags(batch_size=batch_size, base_filters=filters)])
        logged = logged_values(log)
    return logged[f"latency_{'test' if mode == 'predict' else 'train'}_50"] / 1e3 / batch_size


def prediction_seconds(options, data, slices):
    """Seconds per slice of a whole prediction: start, reading, network, writing."""
    with tempfile.TemporaryDirectory() as folder:
        command = [options.unet, *flags(data_dir=data, model_dir=f"{folder}/model", base_filters=options.small)]
        run([*command, *flags(exec_mode="train", max_steps=1)])
        start = time.perf_counter()
        run([*command, *flags(exec_mode="predict")])
        return (time.perf_counter() - start) / slices


def measure(options, folder):
    """Measures the curves. Each has a panel of the plot, a label, and points: what was varied, seconds per image."""
    phantom = folder / "phantom"
    run([options.unet, "phantom", "--out", phantom])
    curves = []

    def curve(panel, label, measurements):
        print(f"{panel}, {label}", file=sys.stderr)
        points = []
        for place, seconds in measurements.items():
            points.append((place, seconds()))
            print(f"  {place}: {points[-1][1]}", file=sys.stderr)
        curves.append(dict(panel=panel, label=label, points=points))

    for mode in ("predict", "train"):
        for filters in (16, 64):
            sizes = [size for size in options.batch_sizes if filters == 16 or size <= 4]
            measurements = {size: partial(step_seconds, options, phantom, mode, filters, size) for size in sizes}
            curve("batch size", f"{mode}, {filters} filters", measurements)
    by_slices = {slices: (slices, 512) for slices in options.slices}
    by_side = {size: (30, size) for size in options.sizes}
    for panel, shapes in (("slices in the stack", by_slices), ("side of a slice, pixels", by_side)):
        predictions, steps = {}, {}
        for place, (slices, size) in shapes.items():
            data = make_dataset(phantom, folder / f"{slices}x{size}", slices, size)
            predictions[place] = partial(prediction_seconds, options, data, slices)
            steps[place] = partial(step_seconds, options, data, "train", options.small)
        curve(panel, f"whole prediction, {options.small} filters", predictions)
        curve(panel, f"training step, {options.small} filters", steps)
    return curves


def plot(curves, path):
    """Draws one panel for each size that was varied; both axes are logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    panels = list(dict.fromkeys(curve["panel"] for curve in curves))
    figure, axes = pyplot.subplots(1, len(panels), figsize=(5 * len(panels), 4), layout="constrained")
    for axis, panel in zip(axes, panels, strict=True):
        drawn = [curve for curve in curves if curve["panel"] == panel]
        for curve in drawn:
            axis.plot(*zip(*curve["points"], strict=True), marker="o", label=curve["label"])
        axis.set(xlabel=panel, ylabel="seconds per image", xscale="log", yscale="log")
        axis.set_xticks(sorted({place for curve in drawn for place, _ in curve["points"]}))
        axis.get_xaxis().set_major_formatter(ticker.ScalarFormatter())
        axis.get_yaxis().set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.get_yaxis().set_major_formatter(ticker.FormatStrFormatter("%g"))
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unet", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--slices", type=int, nargs="+", default=[30, 100, 300, 1000, 3000])
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512, 1024, 2048, 4096])
    parser.add_argument("--small", type=int, default=2, help="filters of the network where the data's size is varied")
    parser.add_argument("--steps", type=int, default=5, help="counted steps of each benchmark")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            curves = measure(options, Path(folder))
        except CommandError as error:
            sys.exit(str(error))
    (options.out / "time_by_size.json").write_text(json.dumps(curves, indent=1) + "\n")
    plot(curves, options.out / "time_by_size.png")


if __name__ == "__main__":
    main()
