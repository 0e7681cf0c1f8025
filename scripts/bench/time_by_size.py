#!/usr/bin/env python3
"""How the time per image grows with batch size, number of slices and slice size; started by scripts/bench/time_by_size.sh.

Writes OUT/time_by_size.json and OUT/time_by_size.png. Slices are those of `unet phantom`, repeated or cut to what is asked for.
A level line is linear growth of the whole; a falling one is better. Against the side of a slice, linear in pixels is a slope of 2.
"""
import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile


def unet(a, *words):
    start = time.perf_counter()
    done = subprocess.run([a.unet, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"unet {' '.join(map(str, words))} failed:\n{done.stderr}")
    return time.perf_counter() - start


def dataset(phantom, folder, slices, size):
    """The phantom's slices, repeated to `slices` and tiled or cut to `size` x `size`."""
    folder.mkdir(parents=True)
    for name in ('train-volume', 'train-labels', 'test-volume'):
        pages = tifffile.imread(phantom / f'{name}.tif')
        tiles = -(-size // pages.shape[1])
        with tifffile.TiffWriter(folder / f'{name}.tif') as file:
            for number in range(slices):
                file.write(np.tile(pages[number % len(pages)], (tiles, tiles))[:size, :size], contiguous=True)
    return folder


def benchmark(a, data, mode, batch_size, filters):
    """Seconds per image of counted steps, and peak memory of the process in GiB."""
    with tempfile.TemporaryDirectory() as log:
        unet(a, '--data_dir', data, '--model_dir', f'{log}/none', '--log_dir', log, '--exec_mode', mode, '--benchmark',
             '--batch_size', batch_size, '--base_filters', filters, '--warmup_steps', 1, '--max_steps', 1 + a.steps)
        lines = Path(log, 'log.json').read_text().splitlines()
    figures = {key: value for line in lines for key, value in json.loads(line[5:]).get('data', {}).items()}
    name = 'test' if mode == 'predict' else 'train'
    return figures[f'latency_{name}_50'] / 1e3 / batch_size, figures[f'peak_memory_process_{name}']


def whole_run(a, data, slices):
    """Seconds per slice of a whole prediction: start, reading, network, writing."""
    with tempfile.TemporaryDirectory() as folder:
        model = ['--data_dir', data, '--model_dir', f'{folder}/model', '--base_filters', a.small]
        unet(a, *model, '--exec_mode', 'train', '--max_steps', 1)
        return unet(a, *model, '--exec_mode', 'predict') / slices


def measure(a, folder):
    phantom = folder / 'phantom'
    unet(a, 'phantom', '--out', phantom)
    curves = []

    def curve(panel, label, xs, seconds):
        print(f'{panel}, {label}', file=sys.stderr)
        points = []
        for x in xs:
            points.append((x, seconds(x)))
            print(f'  {x}: {points[-1][1]}', file=sys.stderr)
        curves.append(dict(panel=panel, label=label, points=points))

    for mode in ('predict', 'train'):
        for filters in (16, 64):
            sizes = [size for size in a.batch_sizes if filters == 16 or size <= 4]
            curve('batch size', f'{mode}, {filters} filters', sizes,
                  lambda size: benchmark(a, phantom, mode, size, filters)[0])
    for slices in a.slices:
        dataset(phantom, folder / f'slices{slices}', slices, 512)
    curve('slices in the stack', f'whole prediction, {a.small} filters', a.slices,
          lambda slices: whole_run(a, folder / f'slices{slices}', slices))
    curve('slices in the stack', f'training step, {a.small} filters', a.slices,
          lambda slices: benchmark(a, folder / f'slices{slices}', 'train', 1, a.small)[0])
    for size in a.sizes:
        dataset(phantom, folder / f'size{size}', 30, size)
    curve('side of a slice, pixels', f'whole prediction, {a.small} filters', a.sizes,
          lambda size: whole_run(a, folder / f'size{size}', 30))
    curve('side of a slice, pixels', f'training step, {a.small} filters', a.sizes,
          lambda size: benchmark(a, folder / f'size{size}', 'train', 1, a.small)[0])
    return curves


def plot(curves, path):
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot, ticker
    panels = list(dict.fromkeys(curve['panel'] for curve in curves))
    figure, axes = pyplot.subplots(1, len(panels), figsize=(5 * len(panels), 4), layout='constrained')
    for axis, panel in zip(axes, panels):
        for curve in curves:
            if curve['panel'] == panel:
                axis.plot(*zip(*curve['points']), marker='o', label=curve['label'])
        axis.set(xlabel=panel, ylabel='seconds per image', xscale='log', yscale='log')
        axis.set_xticks(sorted({x for curve in curves if curve['panel'] == panel for x, _ in curve['points']}))
        axis.get_xaxis().set_major_formatter(ticker.ScalarFormatter())
        axis.get_yaxis().set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.get_yaxis().set_major_formatter(ticker.FormatStrFormatter('%g'))
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize='small')
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--unet', required=True)
    parser.add_argument('--out', required=True, type=Path)
    parser.add_argument('--batch_sizes', type=int, nargs='+', default=[1, 2, 4, 8, 16])
    parser.add_argument('--slices', type=int, nargs='+', default=[30, 100, 300, 1000, 3000])
    parser.add_argument('--sizes', type=int, nargs='+', default=[128, 256, 512, 1024, 2048, 4096])
    parser.add_argument('--small', type=int, default=2, help='filters of the network where data, not it, is looked at')
    parser.add_argument('--steps', type=int, default=5, help='counted steps of each benchmark')
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        curves = measure(a, Path(folder))
    (a.out / 'time_by_size.json').write_text(json.dumps(curves, indent=1) + '\n')
    plot(curves, a.out / 'time_by_size.png')


if __name__ == '__main__':
    main()
