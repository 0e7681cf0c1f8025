#!/usr/bin/env python3
"""Predicts a folder of many images: speed beside `--benchmark`, memory, and a run that is killed half-way.

Usage: folder.py UNET WORK [--images 2000] [--size 256] [--base_filters 16]

Makes the images with `unet phantom` and a network with one training step, in the folder WORK.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import time


def run(command, **options):
    """Output, seconds and peak memory in MiB of a command."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{output}")
    return output, time.monotonic() - start, usage.ru_maxrss / 1024


def sums(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("slice_*.png")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("unet", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--base_filters", type=int, default=16)
    options = parser.parse_args()
    unet, work = options.unet.resolve(), options.work
    data, model = work / "data", work / "model"
    make = [unet, "phantom", "--out", data, "--layout", "folders"]
    run([*make, "--slices", str(options.images), "--size", str(options.size), "--overwrite"])
    width = ["--base_filters", str(options.base_filters)]
    run([unet, "--data_dir", data, "--model_dir", model, "--max_steps", "1", "--overwrite", *width])
    few = work / "few"
    few.mkdir(exist_ok=True)
    names = sorted(path.name for path in (data / "test").iterdir())
    for name in names[: options.images // 10]:
        if not (few / name).exists():
            os.link(data / "test" / name, few / name)

    predict = [unet, "--exec_mode", "predict", "--model_dir", model]
    bench = ["--data_dir", few.parent / "data", "--benchmark", "--warmup_steps", "20", "--max_steps", "120"]
    output, _, _ = run([*predict, *bench])
    benchmark = float(re.search(r"throughput_test ([0-9.]+)", output)[1])
    _, few_seconds, few_memory = run([*predict, "--input", few, "--output", work / "few_masks", "--overwrite"])
    whole = work / "masks"
    _, seconds, memory = run([*predict, "--input", data / "test", "--output", whole, "--overwrite"])
    # What both runs do at start and end cancels out.
    speed = (options.images - options.images // 10) / (seconds - few_seconds)

    killed = work / "killed"
    for path in killed.glob("*") if killed.exists() else []:
        path.unlink()
    process = subprocess.Popen([*predict, "--input", data / "test", "--output", killed], stdout=subprocess.DEVNULL)
    while len(sums_so_far := list(killed.glob("slice_*.png")) if killed.exists() else []) < options.images // 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    output, _, _ = run([*predict, "--input", data / "test", "--output", killed])
    kept = int(re.search(r"kept: (\d+)", output)[1])
    report = {
        "images": options.images,
        "benchmark_images_per_second": round(benchmark, 2),
        "folder_images_per_second": round(speed, 2),
        "ratio": round(speed / benchmark, 3),
        "peak_mib_of_a_tenth": round(few_memory),
        "peak_mib_of_all": round(memory),
        "killed_after": len(sums_so_far),
        "kept": kept,
        "equal_to_unbroken": sums(whole) == sums(killed) and len(sums(whole)) == options.images,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
