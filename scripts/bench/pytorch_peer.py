#!/usr/bin/env python3
"""The same U-Net in plain PyTorch: independent code, for tests to compare results with and for benchmarks to time.

    pytorch_peer.py logits --weights model.safetensors --image x.npy --out logits.npy
    pytorch_peer.py step   --weights before.safetensors --image x.npy --label y.npy
                           --out after.safetensors --grads gradients.safetensors [--double]
    pytorch_peer.py bench  --mode train|predict [--engine eager|compile|compile_max|openvino] [--amp] [--batch_size 1]
    pytorch_peer.py train  --data_dir DIR --crossvalidation_idx 0 [--augment] [--max_steps 600] [--seed 0]

Needs scripts/setup/requirements.txt. `COMMAND --help` lists all flags. The tensor names are those of model.safetensors:
encoder.{0..3}.conv{1,2}, bottleneck.conv{1,2}, decoder.{0..3}.{up,conv1,conv2}, head; each .weight and .bias.
"""

import argparse
import json
import os
import sys
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
        skip = skip[:, :, top : top + x.shape[2], left : left + x.shape[3]]
        return F.relu(self.conv2(F.relu(self.conv1(torch.cat([x, skip], 1)))))


class UNet(nn.Module):
    """(N, channels, 572, 572) to logits (N, classes, 388, 388)."""

    def __init__(self, base_filters=64, channels=1, classes=2):
        super().__init__()
        filters = [base_filters << level for level in range(5)]
        self.encoder = nn.ModuleList(
            DoubleConvolution(filters[level - 1] if level else channels, filters[level]) for level in range(4)
        )
        self.bottleneck = DoubleConvolution(filters[3], filters[4])
        self.decoder = nn.ModuleList(Up(filters[level + 1], filters[level]) for level in (3, 2, 1, 0))
        self.head = nn.Conv2d(base_filters, classes, 1)

    def forward(self, x):
        skips = []
        for level in self.encoder:
            skips.append(level(x))
            x = F.max_pool2d(skips[-1], 2)
        x = F.dropout(self.bottleneck(x), 0.5, self.training)
        for level in self.decoder:
            x = level(x, skips.pop())
        return self.head(x)


IGNORED = 255


def losses(logits, labels, weights=None):
    """Cross entropy and dice loss of logits (N, C, H, W) and class indices (N, H, W), of which 255 count nowhere."""
    cross_entropy = F.cross_entropy(logits, labels, weights, ignore_index=IGNORED)
    counted = (labels != IGNORED).unsqueeze(1)
    found = torch.softmax(logits, 1) * counted
    true = torch.stack([labels == index for index in range(logits.shape[1])], 1).to(found.dtype)
    overlap = (found * true).sum((2, 3))
    total = (found * found).sum((2, 3)) + (true * true).sum((2, 3))
    dice = (2 * overlap + 1e-6) / (total + 1e-6)
    return cross_entropy, 1 - dice.mean()


def adam(net, **options):
    return torch.optim.Adam(net.parameters(), 1e-4, weight_decay=5e-4, **options)


# --- data, as the reference's data_loader.py makes it -------------------------------------------------------


def read_stack(path):
    from PIL import Image, ImageSequence

    return np.stack([np.array(page) for page in ImageSequence.Iterator(Image.open(path))])


def fold(slices, seed, index):
    order = np.arange(slices)
    np.random.RandomState(seed).shuffle(order)
    order = np.roll(order, index * int((1 - 0.8) * slices))
    return order[: int(0.8 * slices)], order[int(0.8 * slices) :]


def resize(images):
    return F.interpolate(images, (OUTPUT_SIDE, OUTPUT_SIDE), mode="bilinear", align_corners=False)


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
    top, bottom, row_weight = sample_axis(rng.uniform(0, 0.3), 1 - rng.uniform(0, 0.3), rng.random() < 0.5)
    left, right, column_weight = sample_axis(rng.uniform(0, 0.3), 1 - rng.uniform(0, 0.3), rng.random() < 0.5)

    def sample(pixels):
        pixels = pixels[top] * (1 - row_weight[:, None]) + pixels[bottom] * row_weight[:, None]
        return pixels[:, left] * (1 - column_weight) + pixels[:, right] * column_weight

    return (sample(image) + rng.uniform(-0.2, 0.2)).clamp(-1, 1), sample(label)


def initialize(net):
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


def train(options):
    """Trains on one fold and scores its validation slices."""
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    images = read_stack(os.path.join(options.data_dir, "train-volume.tif"))
    images, labels = preprocess(images, read_stack(os.path.join(options.data_dir, "train-labels.tif")))
    train_slices, validation = fold(len(images), options.seed, options.crossvalidation_idx)
    net = UNet(options.base_filters)
    initialize(net)
    net = net.to(memory_format=torch.channels_last)
    optimizer = adam(net, fused=True)
    centre = slice(MARGIN, MARGIN + OUTPUT_SIDE)
    start, waiting = time.time(), []
    for number in range(1, options.max_steps + 1):
        while len(waiting) < options.batch_size:
            waiting += list(rng.permutation(train_slices))
        batch, waiting = waiting[: options.batch_size], waiting[options.batch_size :]
        pairs = [(images[i], labels[i]) for i in batch]
        if options.augment:
            pairs = [augment(*pair, rng) for pair in pairs]
        batch_images = torch.stack([image for image, _ in pairs])[:, None]
        batch_labels = (torch.stack([label for _, label in pairs])[:, centre, centre] >= 0.5).long()
        cross_entropy, dice_loss = losses(net(batch_images), batch_labels)
        optimizer.zero_grad()
        (cross_entropy + dice_loss).backward()
        optimizer.step()
        if number % 100 == 0:
            print(
                f"step {number}  train_ce_loss {cross_entropy.item():.4f}  train_dice_loss {dice_loss.item():.4f}"
                f"  {time.time() - start:.0f} s",
                flush=True,
            )
    net.eval()
    with torch.inference_mode():
        scores = [losses(net(images[i][None, None]), labels[i][None, centre, centre].long()) for i in validation]
    cross_entropy, dice_loss = (np.mean([float(score[term]) for score in scores]) for term in (0, 1))
    result = dict(eval_ce_loss=cross_entropy, eval_dice_loss=dice_loss, eval_dice_score=1 - dice_loss)
    print(json.dumps(dict(**result, seconds=time.time() - start)))


# --- comparison of one forward pass and one step ----------------------------------------------------------


def load(path):
    from safetensors.torch import load_file

    weights = load_file(path)
    classes, base_filters = weights["head.weight"].shape[:2]
    net = UNet(base_filters, weights["encoder.0.conv1.weight"].shape[1], classes)
    net.load_state_dict(weights)
    return net.eval()


def load_images(path):
    """Images (N, C, H, W) from a file that may lack the axes of images and channels."""
    images = torch.from_numpy(np.load(path)).float()
    return images if images.ndim == 4 else images.reshape((-1, 1, *images.shape[-2:]))


def save_logits(options):
    with torch.inference_mode():
        np.save(options.out, load(options.weights)(load_images(options.image)).numpy())


def take_step(options):
    """One Adam step without dropout. Saves the gradients and the new weights."""
    from safetensors.torch import save_file

    net = load(options.weights).to(torch.float64 if options.double else torch.float32)
    labels = torch.from_numpy(np.load(options.label)).long()
    labels = labels.reshape((-1, *labels.shape[-2:]))
    optimizer = adam(net)
    dtype = net.head.weight.dtype
    weights = torch.tensor(options.class_weights, dtype=dtype) if options.class_weights else None
    sum(losses(net(load_images(options.image).to(dtype)), labels, weights)).backward()
    save_file({name: weight.grad.contiguous() for name, weight in net.named_parameters()}, options.grads)
    optimizer.step()
    save_file({name: weight.detach().contiguous() for name, weight in net.named_parameters()}, options.out)


# --- speed ------------------------------------------------------------------------------------------------


def bench(options):
    """Prints the seconds of each counted step as JSON."""
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    device, batch_size, amp = options.device, options.batch_size, options.amp
    net = UNet(options.base_filters).to(device, memory_format=torch.channels_last).train(options.mode == "train")
    images = torch.randn(batch_size, 1, INPUT_SIDE, INPUT_SIDE, device=device).to(memory_format=torch.channels_last)
    labels = (torch.rand(batch_size, OUTPUT_SIDE, OUTPUT_SIDE, device=device) > 0.25).long()
    modes = {"compile": "default", "compile_max": "max-autotune"}
    run = torch.compile(net, mode=modes[options.engine]) if options.engine in modes else net
    if options.ddp:
        torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
        run = nn.parallel.DistributedDataParallel(run, gradient_as_bucket_view=True)
    half = torch.bfloat16 if device == "cpu" else torch.float16
    optimizer = adam(net, fused=True)
    scaler = torch.amp.GradScaler(device, enabled=amp and device == "cuda")

    def predict():
        with torch.inference_mode(), torch.autocast(device, half, enabled=amp):
            return torch.softmax(run(images).float(), 1)

    def train():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, half, enabled=amp):
            logits = run(images)
        scaler.scale(sum(losses(logits.float(), labels))).backward()
        scaler.step(optimizer)
        scaler.update()

    step = train if options.mode == "train" else predict
    if options.engine == "openvino":
        step = openvino_predict(net.eval(), images, amp)

    def step_seconds():
        start = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def report():
        seconds = [step_seconds() for _ in range(options.steps)]
        peak = torch.cuda.max_memory_reserved() if device == "cuda" else None
        if not (options.ddp and torch.distributed.get_rank() > 0):
            print(json.dumps(dict(seconds=seconds, device_peak_bytes=peak)), flush=True)

    for _ in range(options.warmup_steps):
        step_seconds()
    if options.on_request:
        # The process compiles once and reports each time that a line comes on stdin.
        print("ready", flush=True)
        for _ in sys.stdin:
            report()
    else:
        report()


def openvino_predict(net, images, amp):
    import openvino

    with torch.no_grad():
        model = openvino.convert_model(nn.Sequential(net, nn.Softmax(1)), example_input=images)
    model.reshape(list(images.shape))
    hints = {"INFERENCE_PRECISION_HINT": "bf16" if amp else "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(model, "CPU", hints)
    array = images.contiguous().numpy()
    return lambda: compiled(array)


def add_counts(command, **defaults):
    for name, value in defaults.items():
        command.add_argument("--" + name, type=int, default=value)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for name, run, files in (
        ("logits", save_logits, ("weights", "image", "out")),
        ("step", take_step, ("weights", "image", "label", "out", "grads")),
    ):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        for file in files:
            command.add_argument("--" + file, required=True)
    command.add_argument("--double", action="store_true", help="compute in float64")
    command.add_argument("--class_weights", type=float, nargs="+")
    command = commands.add_parser("train")
    command.set_defaults(run=train)
    command.add_argument("--data_dir", required=True)
    command.add_argument("--crossvalidation_idx", type=int, required=True)
    command.add_argument("--augment", action="store_true")
    add_counts(command, base_filters=16, batch_size=2, max_steps=600, seed=0)
    command = commands.add_parser("bench")
    command.set_defaults(run=bench)
    command.add_argument("--mode", choices=["train", "predict"], required=True)
    command.add_argument("--engine", choices=["eager", "compile", "compile_max", "openvino"], default="eager")
    command.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    command.add_argument("--amp", action="store_true")
    command.add_argument("--on_request", action="store_true", help="report once for each line on stdin")
    command.add_argument("--ddp", action="store_true", help="DistributedDataParallel; started by torchrun")
    add_counts(command, base_filters=64, batch_size=1, warmup_steps=2, steps=3)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
