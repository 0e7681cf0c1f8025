#!/usr/bin/env python3
"""Times unet and its peers in turn and prints ratios of medians; started by scripts/bench/peers.sh.

Each round runs every contender once, in a process of its own: warm-up steps, then counted steps. What counts is the
median over all counted steps of all rounds. On the CPU "tuned" peers run with an allocator that keeps freed memory, as unet
does; on a GPU unet runs without and with --xla, PyTorch eagerly and compiled in two modes, and memory is that of the device.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

KEEP_MEMORY = dict(MALLOC_MMAP_MAX_='0', MALLOC_TRIM_THRESHOLD_=str(10**11), MALLOC_TOP_PAD_=str(256 << 20))
WORKS = {'predict': ('predict', False), 'predict_amp': ('predict', True),
         'train': ('train', False), 'train_amp': ('train', True)}


class Failed(Exception):
    """A contender that ended with an error."""


def run(command, environment):
    """Output and peak memory in bytes of a finished command."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, env={**os.environ, **environment})
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise Failed(f"{' '.join(map(str, command))} failed:\n{errors.decode()}")
        output.seek(0)
        return output.read().decode(), usage.ru_maxrss * 1024


def time_unet(a, mode, amp, xla=False, environment={}):
    """Seconds of the median step, peak memory in bytes, and what the benchmark says of the device's limits."""
    with tempfile.TemporaryDirectory() as folder:
        command = [a.unet, '--data_dir', a.data_dir, '--model_dir', f'{folder}/none', '--log_dir', folder, '--benchmark',
                   '--exec_mode', mode, '--device', a.device, '--batch_size', a.batch_size,
                   '--base_filters', a.base_filters, '--warmup_steps', a.warmup_steps,
                   '--max_steps', a.warmup_steps + a.steps] + ['--amp'] * amp + ['--xla'] * xla
        run(list(map(str, command)), environment)
        records = [json.loads(line[5:]) for line in Path(folder, 'log.json').read_text().splitlines()]
    figures = {key: value for record in records for key, value in record.get('data', {}).items()}
    work = 'test' if mode == 'predict' else 'train'
    # As the steps end: then it measures the machine's limits, which takes memory too.
    peak = figures[f"peak_memory_{'device' if a.device == 'cuda' else 'process'}_{work}"] * 2**30
    limits = {key: figures[f'{key}_{work}'] for key in ('tflops', 'matmul_tflops', 'matmul_share', 'traffic', 'copy_traffic', 'copy_share')
              if f'{key}_{work}' in figures}
    return [figures[f'latency_{work}_50'] / 1e3], peak, limits


def time_peer(a, engine, mode, amp, environment):
    peer = Path(__file__).with_name('pytorch_peer.py')
    command = [sys.executable, peer, 'bench', '--mode', mode, '--engine', engine, '--device', a.device,
               '--batch_size', a.batch_size, '--base_filters', a.base_filters,
               '--warmup_steps', a.warmup_steps, '--steps', a.steps] + ['--amp'] * amp
    output, peak = run(list(map(str, command)), environment)
    result = json.loads(output.splitlines()[-1])
    return result['seconds'], result['device_peak_bytes'] or peak, {}


class WaitingPeer:
    """PyTorch in a process that stays, since compiling takes minutes: timed whenever it is its turn, idle in between."""

    def __init__(self, a, engine, mode, amp):
        peer = Path(__file__).with_name('pytorch_peer.py')
        command = [sys.executable, peer, 'bench', '--on_request', '--mode', mode, '--engine', engine, '--device', a.device,
                   '--batch_size', a.batch_size, '--base_filters', a.base_filters,
                   '--warmup_steps', a.warmup_steps, '--steps', a.steps] + ['--amp'] * amp
        self.command, self.process = list(map(str, command)), None

    def __call__(self):
        if self.process is None:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.read('ready')
        self.process.stdin.write('\n')
        self.process.stdin.flush()
        result = json.loads(self.read('{'))
        return result['seconds'], result['device_peak_bytes'], {}

    def read(self, start):
        for line in self.process.stdout:
            if line.startswith(start):
                return line
        raise Failed(f"{' '.join(self.command)} ended with exit code {self.process.wait()}")

    def end(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()


def contenders(a, mode, amp):
    """Name, group and function of each; groups are what the ratios are against."""
    yield 'unet', 'unet', lambda: time_unet(a, mode, amp)
    if a.device == 'cuda':
        yield 'unet --xla', 'unet', lambda: time_unet(a, mode, amp, True)
        for engine in ['eager', 'compile', 'compile_max']:
            yield f'PyTorch {engine}', 'stock', WaitingPeer(a, engine, mode, amp)
        return
    for engine in ['eager', 'compile']:
        yield f'PyTorch {engine}', 'stock', lambda engine=engine: time_peer(a, engine, mode, amp, {})
        yield f'PyTorch {engine}, keeping allocator', 'tuned', \
            lambda engine=engine: time_peer(a, engine, mode, amp, KEEP_MEMORY)
    if mode == 'predict':
        yield 'OpenVINO', 'tuned', lambda: time_peer(a, 'openvino', mode, amp, KEEP_MEMORY)


def compare(a, work):
    mode, amp = WORKS[work]
    field = [(name, group, function, [], [], {}) for name, group, function in contenders(a, mode, amp)]
    failed = {}
    for number in range(a.rounds):
        for name, group, function, seconds, peaks, limits in field:
            if name in failed:
                continue
            try:
                times, peak, told = function()
            except Failed as failure:
                # A peer that cannot run leaves the others their race.
                if group == 'unet':
                    raise
                failed[name] = str(failure)
                print(f'  {work}: {name}: {failure}', file=sys.stderr, flush=True)
                continue
            seconds += times
            peaks.append(peak)
            limits.update(told)
            print(f'  {work} round {number + 1}: {name} {statistics.median(times):.3f} s', file=sys.stderr, flush=True)
    for _, _, function, *_ in field:
        if isinstance(function, WaitingPeer):
            function.end()
    rows = [dict(name=name, group=group, seconds=statistics.median(seconds), spread=[min(seconds), max(seconds)],
                 images_per_second=a.batch_size / statistics.median(seconds), peak_bytes=max(peaks), **limits)
            for name, group, _, seconds, peaks, limits in field if name not in failed]
    best = {group: min(row['seconds'] for row in rows if row['group'] == group) for group in {r['group'] for r in rows}}
    ours = best['unet']
    ratios = {group: seconds / ours for group, seconds in best.items() if group != 'unet'}
    return dict(work=work, batch_size=a.batch_size, contenders=rows, ratios=ratios, failed=failed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--unet', required=True)
    parser.add_argument('--data_dir', required=True)
    parser.add_argument('--works', nargs='+', choices=WORKS, default=list(WORKS))
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    for name, value in (('batch_size', 1), ('base_filters', 64), ('rounds', 3), ('warmup_steps', 1), ('steps', 3)):
        parser.add_argument('--' + name, type=int, default=value)
    parser.add_argument('--json', help='also write the results to this file')
    a = parser.parse_args()
    results = []
    for work in a.works:
        try:
            results.append(compare(a, work))
        except Failed as failure:
            sys.exit(str(failure))
        result = results[-1]
        print(f"\n{work}, batch {a.batch_size}, {a.base_filters} filters, {a.device}")
        for name in result['failed']:
            print(f'  {name} failed')
        for row in result['contenders']:
            share = f"  {row['tflops']:.0f} TFLOP/s, {row['matmul_share']:.0f} %" if a.device == 'cuda' and 'tflops' in row else ''
            print(f"  {row['name']:36} {row['seconds']:8.4f} s {row['images_per_second']:8.1f} img/s "
                  f"{row['peak_bytes'] / 2**30:6.2f} GiB{share}")
        print('  ' + ', '.join(f'{ratio:.2f} times as fast as the best {group} peer'
                               for group, ratio in sorted(result['ratios'].items())), flush=True)
        if a.json:
            Path(a.json).write_text(json.dumps(results, indent=1))


if __name__ == '__main__':
    main()
