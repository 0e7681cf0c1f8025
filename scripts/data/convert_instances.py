#!/usr/bin/env python3
"""Makes masks of three classes from instance masks: 0 outside, 1 inside, 2 border, so that touching objects come apart.

Usage: scripts/data/convert_instances.py INSTANCES MASKS [--border 2] [--overwrite]

INSTANCES holds a grey image for each picture, PNG or TIFF of 8 or 16 bits: 0 outside, else the number of the object.
MASKS gets an 8-bit PNG of the same name for each. A pixel is border if it belongs to an object and a pixel of another
value, 0 too, is at most --border pixels away. Beyond the edge of an image there is nothing. Needs numpy and Pillow.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SUFFIXES = {".png", ".tif", ".tiff"}
OUTSIDE, INSIDE, BORDER = 0, 1, 2


def read_instances(path):
    """The numbers of the objects, `[H, W]`."""
    with Image.open(path) as image:
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
            sys.exit(f"cannot convert '{path}': {image.mode} pixels, expected one grey channel of whole numbers")
        return np.asarray(image)


def shifted(length, offset):
    """The pixels that have a neighbour at this offset, and these neighbours, along one axis."""
    return slice(max(0, -offset), length - max(0, offset)), slice(max(0, offset), length + min(0, offset))


def three_classes(instances, border):
    """0 outside, 1 inside, 2 border, `[H, W]` u8."""
    height, width = instances.shape
    near_other = np.zeros(instances.shape, bool)
    for dy in range(-border, border + 1):
        for dx in range(-border, border + 1):
            if dy * dy + dx * dx > border * border or abs(dy) >= height or abs(dx) >= width:
                continue
            (rows, other_rows), (columns, other_columns) = shifted(height, dy), shifted(width, dx)
            near_other[rows, columns] |= instances[rows, columns] != instances[other_rows, other_columns]
    classes = np.where(near_other, BORDER, INSIDE)
    return np.where(instances == 0, OUTSIDE, classes).astype(np.uint8)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("instances", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--border", type=int, default=2, metavar="PIXELS", help="width of the border [default: 2]")
    parser.add_argument("--overwrite", action="store_true", help="replace masks that are there")
    options = parser.parse_args(arguments)
    if options.border < 1:
        parser.error(f"--border {options.border} leaves no border, expected at least 1")
    if not options.instances.is_dir():
        parser.error(f"'{options.instances}' is no folder; give one of instance masks")
    return options


def main(arguments=None):
    options = parse(arguments)
    paths = sorted(path for path in options.instances.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        sys.exit(f"'{options.instances}' holds no PNG or TIFF; give a folder of instance masks")
    targets = [options.masks / f"{path.stem}.png" for path in paths]
    if len(set(targets)) < len(targets):
        sys.exit(f"'{options.instances}' holds two images of one name; rename or remove one")
    there = next((target for target in targets if target.exists()), None)
    if there and not options.overwrite:
        sys.exit(f"'{there}' is there already; use --overwrite to replace it, or another folder")
    options.masks.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(3, int)
    for path, target in zip(paths, targets, strict=True):
        mask = three_classes(read_instances(path), options.border)
        Image.fromarray(mask).save(target)
        pixels += np.bincount(mask.ravel(), minlength=3)
    outside, inside, border = 100 * pixels / pixels.sum()
    print(
        f"{options.masks}: {len(targets)} masks; outside {outside:.1f} %, inside {inside:.1f} %, border {border:.1f} %"
    )


if __name__ == "__main__":
    main()
