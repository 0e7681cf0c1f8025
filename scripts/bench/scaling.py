#!/usr/bin/env python3
"""Weak scaling of training on the CPU, unet beside PyTorch's DDP; started by scripts/bench/scaling.sh.

Every process has one thread and a batch of its own, so that ideally a step takes as long with two processes as with one:
efficiency is the one's median time over the other's. One process is started plainly, several with --nproc_per_node
or torchrun. Each round runs every contender once, in turn.
"""
import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from peers import KEEP_MEMORY, run

ONE_THREAD = dict(OMP_NUM_THREADS='1')


def time_unet(a, processes):
    with tempfile.TemporaryDirectory() as folder:
        command = [a.unet, '--data_dir', a.data_dir, '--model_dir', f'{folder}/none', '--log_dir', folder, '--benchmark',
                   '--device', 'cpu', '--batch_size', a.batch_size, '--base_filters', a.base_filters,
                   '--warmup_steps', a.warmup_steps, '--max_steps', a.warmup_steps + a.steps] + ['--amp'] * a.amp
        if processes > 1:
            command += ['--nproc_per_node', processes]
        run(list(map(str, command)), ONE_THREAD)
        records = [json.loads(line[5:]) for line in Path(folder, 'log.json').read_text().splitlines()]
    return next(r['data']['latency_train_50'] / 1e3 for r in records if 'latency_train_50' in r.get('data', {}))


def time_peer(a, processes, environment):
    peer = [Path(__file__).with_name('pytorch_peer.py'), 'bench', '--mode', 'train', '--batch_size', a.batch_size,
            '--base_filters', a.base_filters, '--warmup_steps', a.warmup_steps, '--steps', a.steps] + ['--amp'] * a.amp
    command = [sys.executable]
    if processes > 1:
        command += ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', processes]
        peer.append('--ddp')
    output, _ = run(list(map(str, command + peer)), {**ONE_THREAD, **environment})
    return statistics.median(json.loads(output.splitlines()[-1])['seconds'])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--unet', required=True)
    parser.add_argument('--data_dir', required=True)
    parser.add_argument('--amp', action='store_true')
    parser.add_argument('--json', help='also write the results to this file')
    for name, value in (('processes', 2), ('batch_size', 1), ('base_filters', 64), ('rounds', 3),
                        ('warmup_steps', 2), ('steps', 6)):
        parser.add_argument('--' + name, type=int, default=value)
    a = parser.parse_args()
    contenders = {'unet': lambda n: time_unet(a, n), 'PyTorch DDP': lambda n: time_peer(a, n, {}),
                  'PyTorch DDP, keeping allocator': lambda n: time_peer(a, n, KEEP_MEMORY)}
    seconds = {(name, n): [] for name in contenders for n in (1, a.processes)}
    for number in range(a.rounds):
        for (name, n), times in seconds.items():
            times.append(contenders[name](n))
            print(f'  round {number + 1}: {name}, {n} processes {times[-1]:.3f} s', file=sys.stderr, flush=True)
    print(f'\nSeconds per training step, 1 thread and batch {a.batch_size} per process, {a.base_filters} filters'
          f'{", --amp" if a.amp else ""}')
    rows = []
    for name in contenders:
        one, many = (statistics.median(seconds[name, n]) for n in (1, a.processes))
        rows.append(dict(name=name, one=one, many=many, efficiency=one / many))
        print(f'  {name:32} 1 process {one:6.3f} s   {a.processes} processes {many:6.3f} s   efficiency {one / many:.3f}')
    if a.json:
        Path(a.json).write_text(json.dumps(dict(arguments=vars(a), rows=rows), indent=1) + '\n')


if __name__ == '__main__':
    main()
