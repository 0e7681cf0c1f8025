#!/usr/bin/env python3
"""The same U-Net in plain PyTorch: an independent program to be equal to in results and ahead of in speed.

    pytorch_peer.py logits --weights model.safetensors --image x.npy --out logits.npy
    pytorch_peer.py step   --weights before.safetensors --image x.npy --label y.npy --out after.safetensors --grads g.safetensors
    pytorch_peer.py bench  --mode train|predict [--engine eager|compile|compile_max|openvino] [--amp] [--device cpu|cuda] [--batch_size 1] ...
    pytorch_peer.py train  --data_dir DIR --crossvalidation_idx 0 [--augment] [--base_filters 16] [--batch_size 2] [--max_steps 600] [--seed 0]

Needs scripts/setup/requirements.txt. The tensor names are those of model.safetensors:
encoder.{0..3}.conv{1,2}, bottleneck.conv{1,2}, decoder.{0..3}.{up,conv1,conv2}, head; each .weight and .bias.
"""
import argparse
import json
import sys
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

INPUT_SIDE, OUTPUT_SIDE, MARGIN = 572, 388, 92


class DoubleConvolution(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3)
        self.conv2 = nn.Conv2d(outputs, outputs, 3)

    def forward(self, x):
        return F.relu(self.conv2(F.relu(self.conv1(x))))


class Up(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
        self.conv1 = nn.Conv2d(2 * outputs, outputs, 3)
        self.conv2 = nn.Conv2d(outputs, outputs, 3)

    def forward(self, x, skip):
        x = F.relu(self.up(x))
        top, left = (skip.shape[2] - x.shape[2]) // 2, (skip.shape[3] - x.shape[3]) // 2
        skip = skip[:, :, top:top + x.shape[2], left:left + x.shape[3]]
        return F.relu(self.conv2(F.relu(self.conv1(torch.cat([x, skip], 1)))))


class UNet(nn.Module):
    """(N, 1, 572, 572) to logits (N, 2, 388, 388); class 0 is membrane, class 1 background."""

    def __init__(self, base_filters=64):
        super().__init__()
        filters = [base_filters << level for level in range(5)]
        self.encoder = nn.ModuleList(
            DoubleConvolution(filters[level - 1] if level else 1, filters[level]) for level in range(4))
        self.bottleneck = DoubleConvolution(filters[3], filters[4])
        self.decoder = nn.ModuleList(Up(filters[level + 1], filters[level]) for level in (3, 2, 1, 0))
        self.head = nn.Conv2d(base_filters, 2, 1)

    def forward(self, x):
        skips = []
        for level in self.encoder:
            skips.append(level(x))
            x = F.max_pool2d(skips[-1], 2)
        x = F.dropout(self.bottleneck(x), 0.5, self.training)
        for level in self.decoder:
            x = level(x, skips.pop())
        return self.head(x)


def losses(logits, labels):
    """Cross entropy and dice loss of logits (N, 2, H, W) and class indices (N, H, W)."""
    cross_entropy = F.cross_entropy(logits, labels)
    p = torch.softmax(logits, 1)
    t = torch.stack([labels == 0, labels == 1], 1).to(p.dtype)
    dice = (2 * (p * t).sum((2, 3)) + 1e-6) / ((p * p).sum((2, 3)) + (t * t).sum((2, 3)) + 1e-6)
    return cross_entropy, 1 - dice.mean()


# --- data, as the reference's data_loader.py makes it -------------------------------------------------------


def read_stack(path):
    from PIL import Image, ImageSequence
    return np.stack([np.array(page) for page in ImageSequence.Iterator(Image.open(path))])


def fold(slices, seed, index):
    order = np.arange(slices)
    np.random.RandomState(seed).shuffle(order)
    order = np.roll(order, index * int((1 - 0.8) * slices))
    return order[:int(0.8 * slices)], order[int(0.8 * slices):]


def resize(x):
    return F.interpolate(x, (OUTPUT_SIDE, OUTPUT_SIDE), mode='bilinear', align_corners=False)


def preprocess(images, labels):
    """uint8 (N, H, W) both to framed images and labels, (N, 572, 572) float each."""
    images = resize(torch.from_numpy(images).float()[:, None] / 127.5 - 1)
    labels = (resize(torch.from_numpy(labels).float()[:, None] / 255) >= 0.5).float()
    return F.pad(images, [MARGIN] * 4)[:, 0], F.pad(labels, [MARGIN] * 4)[:, 0]


def sample_axis(first, last, flip):
    """For each output pixel the two source pixels and the weight of the second, along one axis."""
    side = INPUT_SIDE
    place = first * (side - 1) + torch.arange(side, dtype=torch.float64) * (last - first)
    if flip:
        place = side - 1 - place
    low = place.floor().clamp(0, side - 2)
    return low.long(), low.long() + 1, (place - low).float()


def augment(image, label, rng):
    """One random flip, crop and brightness for (572, 572) image and label."""
    rows = sample_axis(rng.uniform(0, .3), 1 - rng.uniform(0, .3), rng.random() < .5)
    columns = sample_axis(rng.uniform(0, .3), 1 - rng.uniform(0, .3), rng.random() < .5)

    def sample(x):
        a, b, w = rows
        x = x[a] * (1 - w[:, None]) + x[b] * w[:, None]
        a, b, w = columns
        return x[:, a] * (1 - w) + x[:, b] * w

    return (sample(image) + rng.uniform(-.2, .2)).clamp(-1, 1), sample(label)


def train(a):
    torch.manual_seed(a.seed)
    rng = np.random.default_rng(a.seed)
    images = read_stack(os.path.join(a.data_dir, 'train-volume.tif'))
    images, labels = preprocess(images, read_stack(os.path.join(a.data_dir, 'train-labels.tif')))
    train_slices, validation = fold(len(images), a.seed, a.crossvalidation_idx)
    net = UNet(a.base_filters)
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), 1e-4, weight_decay=5e-4, fused=True)
    centre = slice(MARGIN, MARGIN + OUTPUT_SIDE)
    start, waiting = time.time(), []
    for step in range(a.max_steps):
        while len(waiting) < a.batch_size:
            waiting += list(rng.permutation(train_slices))
        batch, waiting = waiting[:a.batch_size], waiting[a.batch_size:]
        pairs = [(images[i], labels[i]) for i in batch]
        if a.augment:
            pairs = [augment(*pair, rng) for pair in pairs]
        x = torch.stack([pair[0] for pair in pairs])[:, None]
        y = (torch.stack([pair[1] for pair in pairs])[:, centre, centre] >= 0.5).long()
        cross_entropy, dice_loss = losses(net(x), y)
        optimizer.zero_grad()
        (cross_entropy + dice_loss).backward()
        optimizer.step()
        if (step + 1) % 100 == 0:
            print(f'step {step + 1}  train_ce_loss {cross_entropy.item():.4f}  train_dice_loss {dice_loss.item():.4f}'
                  f'  {time.time() - start:.0f} s', flush=True)
    net.eval()
    with torch.inference_mode():
        scores = [losses(net(images[i][None, None]), labels[i][None, centre, centre].long()) for i in validation]
    cross_entropy, dice_loss = (np.mean([float(score[term]) for score in scores]) for term in (0, 1))
    print(json.dumps(dict(eval_ce_loss=cross_entropy, eval_dice_loss=dice_loss, eval_dice_score=1 - dice_loss,
                          seconds=time.time() - start)))


# --- comparison of one forward pass and one step ----------------------------------------------------------


def load(path):
    from safetensors.torch import load_file
    weights = load_file(path)
    net = UNet(weights['head.weight'].shape[1])
    net.load_state_dict(weights)
    return net.eval()


def images_from(path):
    x = torch.from_numpy(np.load(path)).float()
    return x.reshape((-1, 1) + x.shape[-2:])


def logits(a):
    with torch.inference_mode():
        np.save(a.out, load(a.weights)(images_from(a.image)).numpy())


def step(a):
    """One Adam step without dropout."""
    from safetensors.torch import save_file
    net = load(a.weights).to(torch.float64 if a.double else torch.float32)
    labels = torch.from_numpy(np.load(a.label)).long()
    optimizer = torch.optim.Adam(net.parameters(), 1e-4, weight_decay=5e-4)
    x = images_from(a.image).to(net.head.weight.dtype)
    sum(losses(net(x), labels.reshape((-1,) + labels.shape[-2:]))).backward()
    save_file({name: p.grad.contiguous() for name, p in net.named_parameters()}, a.grads)
    optimizer.step()
    save_file({name: p.detach().contiguous() for name, p in net.named_parameters()}, a.out)


# --- speed ------------------------------------------------------------------------------------------------


def bench(a):
    """Prints the seconds of each counted step as JSON."""
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    net = UNet(a.base_filters).to(a.device, memory_format=torch.channels_last).train(a.mode == 'train')
    x = torch.randn(a.batch_size, 1, INPUT_SIDE, INPUT_SIDE, device=a.device).to(memory_format=torch.channels_last)
    y = (torch.rand(a.batch_size, OUTPUT_SIDE, OUTPUT_SIDE, device=a.device) > .25).long()
    modes = {'compile': 'default', 'compile_max': 'max-autotune'}
    run = torch.compile(net, mode=modes[a.engine]) if a.engine in modes else net
    if a.ddp:
        torch.distributed.init_process_group('nccl' if a.device == 'cuda' else 'gloo')
        run = nn.parallel.DistributedDataParallel(run, gradient_as_bucket_view=True)
    half = torch.bfloat16 if a.device == 'cpu' else torch.float16
    optimizer = torch.optim.Adam(net.parameters(), 1e-4, weight_decay=5e-4, fused=True)
    scaler = torch.amp.GradScaler(a.device, enabled=a.amp and a.device == 'cuda')

    def predict():
        with torch.inference_mode(), torch.autocast(a.device, half, enabled=a.amp):
            return torch.softmax(run(x).float(), 1)

    def train():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(a.device, half, enabled=a.amp):
            logits = run(x)
        scaler.scale(sum(losses(logits.float(), y))).backward()
        scaler.step(optimizer)
        scaler.update()

    step = train if a.mode == 'train' else predict
    if a.engine == 'openvino':
        step = openvino_predict(net.eval(), x, a.amp)

    def timed():
        start = time.perf_counter()
        step()
        if a.device == 'cuda':
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def report():
        times = [timed() for _ in range(a.steps)]
        peak = torch.cuda.max_memory_reserved() if a.device == 'cuda' else None
        if not (a.ddp and torch.distributed.get_rank() > 0):
            print(json.dumps(dict(seconds=times, device_peak_bytes=peak)), flush=True)

    for _ in range(a.warmup_steps):
        timed()
    if a.on_request:
        # Compiled once, timed again and again: a line on stdin asks for a report.
        print('ready', flush=True)
        for _ in sys.stdin:
            report()
    else:
        report()


def openvino_predict(net, x, amp):
    import openvino
    with torch.no_grad():
        model = openvino.convert_model(nn.Sequential(net, nn.Softmax(1)), example_input=x)
    model.reshape(list(x.shape))
    precision = 'bf16' if amp else 'f32'
    compiled = openvino.Core().compile_model(
        model, 'CPU', {'INFERENCE_PRECISION_HINT': precision, 'PERFORMANCE_HINT': 'LATENCY'})
    image = x.contiguous().numpy()
    return lambda: compiled(image)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for run, files in ((logits, ('weights', 'image', 'out')), (step, ('weights', 'image', 'label', 'out', 'grads'))):
        command = commands.add_parser(run.__name__)
        command.set_defaults(run=run)
        for name in files:
            command.add_argument('--' + name, required=True)
    command.add_argument('--double', action='store_true', help='compute in float64')
    command = commands.add_parser('train')
    command.set_defaults(run=train)
    command.add_argument('--data_dir', required=True)
    command.add_argument('--crossvalidation_idx', type=int, required=True)
    command.add_argument('--augment', action='store_true')
    for name, value in (('base_filters', 16), ('batch_size', 2), ('max_steps', 600), ('seed', 0)):
        command.add_argument('--' + name, type=int, default=value)
    command = commands.add_parser('bench')
    command.set_defaults(run=bench)
    command.add_argument('--mode', choices=['train', 'predict'], required=True)
    command.add_argument('--engine', choices=['eager', 'compile', 'compile_max', 'openvino'], default='eager')
    command.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    command.add_argument('--amp', action='store_true')
    command.add_argument('--on_request', action='store_true', help='report once for each line on stdin')
    command.add_argument('--ddp', action='store_true', help='DistributedDataParallel; started by torchrun')
    for name, value in (('base_filters', 64), ('batch_size', 1), ('warmup_steps', 2), ('steps', 3)):
        command.add_argument('--' + name, type=int, default=value)
    a = parser.parse_args()
    a.run(a)


if __name__ == '__main__':
    main()
