#!/usr/bin/env python3
"""Times unet and its peers in turn and prints ratios of medians; started by scripts/bench_peers.sh.

Each round runs every contender once, in a process of its own: warm-up steps, then counted steps. What counts is the
median over all counted steps of all rounds. "Tuned" peers run with an allocator that keeps freed memory, as unet does.
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


def run(command, environment):
    """Output and peak memory in bytes of a finished command."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, env={**os.environ, **environment})
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{' '.join(map(str, command))} failed:\n{errors.decode()}")
        output.seek(0)
        return output.read().decode(), usage.ru_maxrss * 1024


def time_unet(a, mode, amp):
    with tempfile.TemporaryDirectory() as folder:
        command = [a.unet, '--data_dir', a.data_dir, '--model_dir', f'{folder}/none', '--log_dir', folder, '--benchmark',
                   '--exec_mode', mode, '--device', a.device, '--batch_size', a.batch_size,
                   '--base_filters', a.base_filters, '--warmup_steps', a.warmup_steps,
                   '--max_steps', a.warmup_steps + a.steps] + ['--amp'] * amp
        _, peak = run(list(map(str, command)), {})
        records = [json.loads(line[5:]) for line in Path(folder, 'log.json').read_text().splitlines()]
    key = f"latency_{'test' if mode == 'predict' else 'train'}_50"
    return [record['data'][key] / 1e3 for record in records if key in record.get('data', {})], peak


def time_peer(a, engine, mode, amp, environment):
    peer = Path(__file__).with_name('pytorch_peer.py')
    command = [sys.executable, peer, 'bench', '--mode', mode, '--engine', engine, '--device', a.device,
               '--batch_size', a.batch_size, '--base_filters', a.base_filters,
               '--warmup_steps', a.warmup_steps, '--steps', a.steps] + ['--amp'] * amp
    output, peak = run(list(map(str, command)), environment)
    return json.loads(output.splitlines()[-1])['seconds'], peak


def contenders(a, mode, amp):
    """Name, group and function of each; groups are what the ratios are against."""
    yield 'unet', 'unet', lambda: time_unet(a, mode, amp)
    for engine in ['eager', 'compile']:
        yield f'PyTorch {engine}', 'stock', lambda engine=engine: time_peer(a, engine, mode, amp, {})
        if a.device == 'cpu':
            yield f'PyTorch {engine}, keeping allocator', 'tuned', \
                lambda engine=engine: time_peer(a, engine, mode, amp, KEEP_MEMORY)
    if a.device == 'cpu' and mode == 'predict':
        yield 'OpenVINO', 'tuned', lambda: time_peer(a, 'openvino', mode, amp, KEEP_MEMORY)


def compare(a, work):
    mode, amp = WORKS[work]
    field = [(name, group, function, [], []) for name, group, function in contenders(a, mode, amp)]
    for number in range(a.rounds):
        for name, _, function, seconds, peaks in field:
            times, peak = function()
            seconds += times
            peaks.append(peak)
            print(f'  {work} round {number + 1}: {name} {statistics.median(times):.3f} s', file=sys.stderr, flush=True)
    rows = [dict(name=name, group=group, seconds=statistics.median(seconds), peak_bytes=max(peaks))
            for name, group, _, seconds, peaks in field]
    best = {group: min(row['seconds'] for row in rows if row['group'] == group) for group in {r['group'] for r in rows}}
    ours = rows[0]['seconds']
    ratios = {group: seconds / ours for group, seconds in best.items() if group != 'unet'}
    return dict(work=work, batch_size=a.batch_size, contenders=rows, ratios=ratios)


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
        results.append(compare(a, work))
        result = results[-1]
        print(f"\n{work}, batch {a.batch_size}, {a.base_filters} filters, {a.device}")
        for row in result['contenders']:
            print(f"  {row['name']:36} {row['seconds']:8.3f} s  {row['peak_bytes'] / 2**30:6.2f} GiB")
        print('  ' + ', '.join(f'{ratio:.2f} times as fast as the best {group} peer'
                               for group, ratio in sorted(result['ratios'].items())), flush=True)
        if a.json:
            Path(a.json).write_text(json.dumps(results, indent=1))


if __name__ == '__main__':
    main()
