#!/usr/bin/env python3
"""Runs unet on a GPU in parts and prints a table; started by scripts/check/gpu_check.sh.

Each part leaves OUT/PART.json when it is done and is not run again; what was cut short goes on where it was. A part that
does not end within the time left (--minutes) is stopped, and the next call goes on with it.
"""
import argparse
import csv
import json
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

import torch

from peers import Failed, WORKS, compare, time_unet

PUBLISHED = '| published, 1 to 8 GPUs | 0.8908 to 0.8942 | | | about 600 (A100) |'
SCORES = ['eval_dice_score', 'v_rand_thin', 'v_info_thin']
# That one comparison takes at most, with PyTorch's compilation.
SPEED_SECONDS = 300


class Cut(Exception):
    """A run that was stopped for want of time; it left a checkpoint."""


class Runner:
    def __init__(self, a):
        self.a = a
        self.end = time.monotonic() + 60 * a.minutes

    def unet(self, name, flags):
        """Runs the program; its output and seconds. The output is kept in OUT/logs."""
        log = self.a.out / 'logs' / f'{name}.txt'
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [str(self.a.binary), *map(str, flags)]
        start = time.monotonic()
        with open(log, 'w') as output:
            print('$', *command, file=output, flush=True)
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            try:
                process.wait(max(1, self.end - start))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
                process.wait()
                raise Cut(time.monotonic() - start) from None
        text = log.read_text()
        if process.returncode:
            raise Failed(f'{name}: exit code {process.returncode}: {text.splitlines()[-1]}')
        return text, time.monotonic() - start

    def train(self, name, *flags, steps=None, folder=None):
        """A short training run; its model folder."""
        folder = folder or self.a.out / 'runs' / name
        _, seconds = self.unet(name, [
            '--data_dir', self.a.data, '--model_dir', folder, '--device', self.a.device, '--base_filters', self.a.base_filters,
            '--max_steps', steps or self.a.short_steps, '--augment', '--deterministic', '--log_every', 10, *flags])
        return folder, seconds

    def fresh(self, name):
        folder = self.a.out / 'runs' / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder


def weights(path):
    """All numbers of a weight file, [parameters] f64."""
    data = path.read_bytes()
    start = 8 + struct.unpack('<Q', data[:8])[0]
    return torch.frombuffer(bytearray(data[start:]), dtype=torch.float32).double()


def figures(log_dir):
    """All that a run has logged, by name."""
    records = [json.loads(line[5:]) for line in (log_dir / 'log.json').read_text().splitlines()]
    return {key: value for record in records for key, value in record.get('data', {}).items()}


def distance(a, b):
    """The norm of the difference, as a part of that of b."""
    return ((a - b).norm() / b.norm()).item()


def check(r):
    """The device against float64, loss scaling, replayed steps: `unet check`."""
    try:
        text, seconds = r.unet('check', ['check', '--device', r.a.device, '--base_filters', r.a.base_filters, '--json'])
    except Failed as failure:
        text, seconds = (r.a.out / 'logs' / 'check.txt').read_text(), 0
        if '{' not in text:
            raise failure
    report, _ = json.JSONDecoder().raw_decode(text[text.index('{'):])
    rows = [dict(name=row['name'], value=row['value'], limit=row['limit'], passed=(row['value'] or 0) <= row['limit'])
            for row in report['rows']]
    return dict(rows=rows, passed=report['passed'], seconds=seconds)


def same(r, name, first, second, limit):
    value = distance(weights(first / 'model.safetensors'), weights(second / 'model.safetensors'))
    return dict(name=name, value=value, limit=limit, passed=value <= limit)


def resume(r):
    """A run that is resumed half-way ends with the weights of an unbroken one."""
    half, rows = r.a.short_steps // 2, []
    for precision, flags in [('float32', []), ('mixed precision', ['--amp'])]:
        whole, _ = r.train('whole', *flags, '--overwrite')
        broken = r.fresh('broken')
        r.train('first-half', *flags, steps=half, folder=broken)
        r.train('second-half', *flags, '--resume_training', folder=broken)
        rows.append(same(r, f'weights after {r.a.short_steps} steps in {precision}, resumed after {half}', whole, broken, 0.0))
    return dict(rows=rows, passed=all(row['passed'] for row in rows))


def nccl(r):
    """One process with the distributed engine computes what one without it does."""
    alone, _ = r.train('alone', '--overwrite')
    group, _ = r.train('group', '--overwrite', '--nproc_per_node', 1)
    name = f'weights after {r.a.short_steps} steps, one process with and without its process group'
    row = same(r, name, alone, group, 1e-6)
    return dict(rows=[row], passed=row['passed'])


def fold(r, number, precision):
    """One fold as examples/unet_TRAIN_*_1GPU.sh runs it; resumed where it was cut short."""
    name = f'fold{number}-{precision}'
    folder = r.a.out / 'runs' / name
    timing = r.a.out / 'runs' / f'{name}.seconds'
    flags = ['--data_dir', r.a.data, '--model_dir', folder, '--log_dir', folder / 'log', '--device', r.a.device,
             '--base_filters', r.a.base_filters, '--exec_mode', 'train_and_evaluate', '--crossvalidation_idx', number,
             '--augment', '--batch_size', r.a.batch_size, '--max_steps', r.a.max_steps, '--checkpoint_every', 1000, '--xla']
    flags += ['--amp'] if precision == 'amp' else []
    done = json.loads(timing.read_text()) if timing.exists() else []
    if (folder / 'model.safetensors').exists():
        # Cut short in the evaluation.
        flags += ['--exec_mode', 'evaluate', '--overwrite']
    elif (folder / 'checkpoints').is_dir() and any((folder / 'checkpoints').iterdir()):
        flags += ['--resume_training']
    elif folder.exists():
        flags += ['--overwrite']
    try:
        _, seconds = r.unet(name, flags)
    except Cut as cut:
        timing.write_text(json.dumps(done + [cut.args[0]]))
        raise
    scores = json.loads((folder / 'eval.json').read_text())
    if (folder / 'learning_curves.png').exists():
        curves = r.a.out / 'curves'
        curves.mkdir(exist_ok=True)
        shutil.copy(folder / 'learning_curves.png', curves / f'{name}.png')
    return dict(fold=number, precision=precision, seconds=sum(done) + seconds, resumed=len(done) > 0,
                scores={key: scores[key] for key in SCORES if key in scores}, passed=True)


def start(r):
    """Seconds from the start of the process, its loading included, to the end of the first training step."""
    rows = []
    for name, flags in [('float32', []), ('mixed precision', ['--amp']), ('mixed precision with --xla', ['--amp', '--xla'])]:
        log = r.a.out / 'runs' / 'start'
        r.unet('start', ['--data_dir', r.a.data, '--model_dir', r.fresh('none'), '--log_dir', log, '--device', r.a.device, '--base_filters',
                         r.a.base_filters, '--batch_size', r.a.batch_size, '--benchmark', '--max_steps', 2, '--warmup_steps', 1, *flags])
        value = figures(log)['first_step_after_train']
        rows.append(dict(name=f'seconds from start to first step in {name}', value=value, limit=10.0, passed=value <= 10.0))
    return dict(rows=rows, passed=all(row['passed'] for row in rows))


def settings(r, batch_size):
    """What peers.py wants to know."""
    return argparse.Namespace(unet=r.a.binary, data_dir=r.a.data, device=r.a.device, batch_size=batch_size, base_filters=r.a.base_filters,
                              rounds=3, warmup_steps=r.a.short_steps, steps=2 * r.a.short_steps)


def speed(r, work, batch_size):
    """unet beside PyTorch, eager and compiled, in turn."""
    return dict(speed=compare(settings(r, batch_size), work), passed=True)


def kernels(r, work, batch_size):
    """The four ways of UNET_CUDA_KERNELS in turn, without --xla, so that launches count too, and with it."""
    (mode, amp), a = WORKS[work], settings(r, batch_size)
    times = {(way, xla): [] for way in ('own', 'fused', 'separate', 'aten') for xla in (False, True)}
    for _ in range(a.rounds):
        for (way, xla), seconds in times.items():
            seconds += time_unet(a, mode, amp, xla, dict(UNET_CUDA_KERNELS=way))[0]
    return dict(kernels=[dict(name=way + (' --xla' if xla else ''), seconds=statistics.median(seconds))
                         for (way, xla), seconds in times.items()], work=work, batch_size=batch_size, passed=True)


def profile(r, work, batch_size):
    """Time by the names of kernels, from the program's own --profile; the trace stays in OUT/profiles."""
    mode, amp = WORKS[work]
    folder = r.a.out / 'profiles' / f'{work}-{batch_size}'
    shutil.rmtree(folder, ignore_errors=True)
    text, _ = r.unet(f'profile-{work}-{batch_size}', [
        '--data_dir', r.a.data, '--model_dir', r.fresh('none'), '--device', r.a.device, '--base_filters', r.a.base_filters, '--batch_size',
        batch_size, '--benchmark', '--exec_mode', mode, '--warmup_steps', r.a.short_steps, '--max_steps', r.a.short_steps + 1,
        '--profile', folder, *(['--amp'] if amp else [])])
    with open(folder / f"profile_{'test' if mode == 'predict' else 'train'}.csv", newline='') as table:
        rows = [{key: value if key == 'name' else float(value) for key, value in row.items()} for row in csv.DictReader(table)]
    said = next(line for line in text.splitlines() if line.startswith('profile: '))
    return dict(profile=rows, said=said, work=work, batch_size=batch_size, passed=True)


# Kind of work and images in a batch: first what the published figures and our targets are about.
SPEEDS = [('train_amp', 8), ('train_amp', 1), ('predict_amp', 1), ('predict_amp', 16), ('train', 8), ('predict', 16)]
DETAILS = SPEEDS[:]
SPEEDS += [(work, size) for size in (2, 4, 16) for work in ('train_amp', 'train', 'predict_amp', 'predict')
           if (work, size) not in SPEEDS] + [('train', 1), ('predict', 1), ('predict_amp', 8), ('predict', 8)]


def parts(a):
    yield 'check', check
    yield 'resume', resume
    yield 'nccl', nccl
    yield 'start', start
    for number in range(5):
        yield f'fold{number}-amp', lambda r, number=number: fold(r, number, 'amp')
    yield 'fold0-tf32', lambda r: fold(r, 0, 'tf32')
    for part, pairs in [(profile, DETAILS), (kernels, DETAILS), (speed, SPEEDS)]:
        for work, size in pairs:
            yield f'{part.__name__}-{work}-{size}', lambda r, part=part, work=work, size=size: part(r, work, size)


def table(a):
    """What is done so far, as Markdown."""
    lines, folds, profiles, ways, speeds, missing = [], [], [], [], [], []
    for name, _ in parts(a):
        path = a.out / f'{name}.json'
        if not path.exists():
            missing.append(name)
            continue
        result = json.loads(path.read_text())
        if 'scores' in result:
            folds.append(result)
        if 'profile' in result:
            profiles.append(result)
        if 'kernels' in result:
            ways.append(result)
        if 'speed' in result:
            speeds.append(result['speed'])
        for row in result.get('rows', []):
            verdict = 'ok' if row['passed'] else 'NOT PASSED'
            lines.append(f"{verdict:10}  {row['name']}: {row['value']:.2g}, at most {row['limit']:.2g}")
        if 'error' in result:
            lines.append(f"NOT PASSED  {name}: {result['error']}")
    if folds:
        lines += ['', f"| run | {' | '.join(SCORES)} | seconds |", '|---' * (len(SCORES) + 2) + '|']
        for f in folds:
            cells = [f"{f['scores'][key]:.4f}" if key in f['scores'] else '' for key in SCORES]
            lines.append(f"| fold {f['fold']}, {f['precision']} | {' | '.join(cells)} | {f['seconds']:.0f} |")
        amp = [f for f in folds if f['precision'] == 'amp']
        if len(amp) > 1:
            means = [statistics.mean([f['scores'][key] for f in amp if key in f['scores']] or [float('nan')]) for key in SCORES]
            seconds = statistics.mean(f['seconds'] for f in amp)
            lines.append(f"| mean of {len(amp)}, amp | {' | '.join(f'{mean:.4f}' for mean in means)} | {seconds:.0f} |")
        lines.append(PUBLISHED)
    for result in profiles:
        lines += ['', f"{result['work']}, batch {result['batch_size']}: {result['said']}", '', '| kernel | calls | ms | % |', '|---|---|---|---|']
        lines += [f"| `{row['name'][:100]}` | {row['calls_per_step']:.1f} | {row['ms_per_step']:.3f} | {row['percent']:.1f} |"
                  for row in result['profile'][:12]]
    for result in ways:
        cells = [f"{row['name']} {1e3 * row['seconds']:.2f}" for row in result['kernels']]
        lines += ['', f"{result['work']}, batch {result['batch_size']}, ms a step by UNET_CUDA_KERNELS: {', '.join(cells)}"]
    for result in speeds:
        lines += [f'{name} failed' for name in result['failed']]
        lines += ['', f"| {result['work']}, batch {result['batch_size']} | ms a step (least to most) | img/s | GiB | TFLOP/s | of products "
                  '| of copying | unet is |', '|---' * 8 + '|']
        best = min(row['seconds'] for row in result['contenders'] if row['group'] == 'unet')
        for row in result['contenders']:
            low, high = (1e3 * seconds for seconds in row['spread'])
            cells = [f"{1e3 * row['seconds']:.2f} ({low:.2f} to {high:.2f})", f"{row['images_per_second']:.0f}",
                     f"{row['peak_bytes'] / 2**30:.2f}", *(f'{row[key]:.0f}{unit}' if key in row else ''
                                                           for key, unit in (('tflops', ''), ('matmul_share', ' %'), ('copy_share', ' %'))),
                     '' if row['group'] == 'unet' else f"{row['seconds'] / best:.2f} times as fast"]
            lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    if missing:
        lines += ['', f"not run yet: {', '.join(missing)}"]
    return '\n'.join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('binary', type=Path)
    parser.add_argument('data', type=Path)
    parser.add_argument('out', type=Path)
    parser.add_argument('--parts', nargs='+', help='those to run; all by default: check, resume, nccl, start, fold0-amp ... fold4-amp, fold0-tf32, '
                             'and profile-WORK-BATCH, kernels-WORK-BATCH, speed-WORK-BATCH with WORK train_amp, train, predict_amp, predict')
    parser.add_argument('--again', action='store_true', help='run them though they are done')
    parser.add_argument('--minutes', type=float, default=9, help='time for this call (default 9)')
    parser.add_argument('--device', default='cuda', help='cpu tries the script itself')
    parser.add_argument('--base_filters', type=int, default=64)
    parser.add_argument('--batch_size', type=int, default=8, help='of the folds')
    parser.add_argument('--max_steps', type=int, default=6400, help='of the folds')
    parser.add_argument('--short_steps', type=int, default=20, help='of the other runs')
    a = parser.parse_args()
    known = dict(parts(a))
    unknown = set(a.parts or []) - set(known)
    if unknown:
        parser.error(f"unknown parts {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    a.out.mkdir(parents=True, exist_ok=True)
    r, failed, worked = Runner(a), False, False
    for name in a.parts or known:
        path = a.out / f'{name}.json'
        if path.exists() and not a.again and json.loads(path.read_text())['passed']:
            continue
        start = time.monotonic()
        # PyTorch's compilation cannot be cut and gone on with.
        if name.startswith('speed') and worked and r.end - start < SPEED_SECONDS:
            print(f'{name}: too little time left; call again to go on', file=sys.stderr)
            break
        worked = True
        try:
            result = known[name](r)
        except Cut:
            print(f'{name}: no time left; call again to go on', file=sys.stderr)
            break
        except (Failed, OSError, ValueError) as error:
            result = dict(error=str(error), passed=False)
        path.write_text(json.dumps(result, indent=1))
        failed |= not result['passed']
        print(f"{name}: {'done' if result['passed'] else 'NOT PASSED'} in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    text = table(a)
    (a.out / 'table.md').write_text(text + '\n')
    print(text)
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
