#!/usr/bin/env python3
"""Makes a raw dataset of nnU-Net v2 from a folder of images and one of masks.

Usage: scripts/data/to_nnunet.py DATA OUT --labels background,cell [--hold_out NAME,NAME] [--overwrite]

DATA holds images/ and masks/, whose files belong together by their names without suffix (PNG, JPEG, TIFF; 8 bits).
OUT gets imagesTr/NAME_0000.png, labelsTr/NAME.png and dataset.json. A colour image stays one file of three channels,
and its alpha is left out; if one image has colours, grey ones become grey colours. The values of the masks, from the
smallest, become the classes 0, 1 and so on, which --labels names; nnU-Net asks for "background" as the first name.
Images that --hold_out names go to imagesTs/ and their labels to labelsTs/, where nnU-Net neither plans nor trains.
Needs numpy and Pillow.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff"}
GREY_MODES = {"1", "L", "LA"}
COLOUR_MODES = {"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr"}


def files_by_name(folder):
    """The image files of a folder, by their names without suffix."""
    if not folder.is_dir():
        sys.exit(f"'{folder}' is no folder; DATA needs images/ and masks/")
    found = {}
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES):
        if path.stem in found:
            sys.exit(f"'{path}' and '{found[path.stem]}' have one name; rename or remove one")
        found[path.stem] = path
    return found


def pairs(data):
    """Image and mask of each name."""
    images, masks = files_by_name(data / "images"), files_by_name(data / "masks")
    for name in sorted(images.keys() ^ masks.keys()):
        lone, folder = (images[name], "masks") if name in images else (masks[name], "images")
        sys.exit(f"'{lone}' has no file of its name in '{data / folder}'; add it or remove this one")
    if not images:
        sys.exit(f"'{data}' holds no images; PNG, JPEG and TIFF are read")
    return {name: (path, masks[name]) for name, path in images.items()}


def has_colours(path):
    with Image.open(path) as image:
        if image.mode not in GREY_MODES | COLOUR_MODES:
            sys.exit(f"cannot convert '{path}': {image.mode} pixels; convert it to 8-bit grey or RGB")
        return image.mode in COLOUR_MODES


def read_mask(path):
    """The values of a mask, `[H, W]`; of a palette image its indices."""
    with Image.open(path) as image:
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
            sys.exit(f"cannot convert '{path}': {image.mode} pixels, expected one grey channel of whole numbers")
        return np.asarray(image).astype(np.int64)


def check(files, names):
    """Checks sizes and values of all masks. Returns the values in the order of the classes."""
    values = set()
    for image_path, mask_path in files.values():
        mask = read_mask(mask_path)
        with Image.open(image_path) as image:
            if (image.height, image.width) != mask.shape:
                sizes = f"{mask.shape[1]}x{mask.shape[0]} pixels, expected {image.width}x{image.height}"
                sys.exit(f"cannot use '{mask_path}': {sizes} as in '{image_path}'")
        values.update(np.unique(mask).tolist())
    if len(values) != len(names):
        shown = ", ".join(map(str, sorted(values)[:20]))
        sys.exit(f"the masks hold {len(values)} values ({shown}), --labels has {len(names)} names; give one a value")
    return sorted(values)


def places(out, name, part):
    """The files that image and mask become; `part` is "Tr" to train on, "Ts" to test with."""
    return out / f"images{part}" / f"{name}_0000.png", out / f"labels{part}" / f"{name}.png"


def description(names, in_colours, count):
    """What dataset.json holds."""
    return {
        "channel_names": {str(index): name for index, name in enumerate("RGB" if in_colours else ["grey"])},
        "labels": {name: index for index, name in enumerate(names)},
        "numTraining": count,
        "file_ending": ".png",
    }


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--labels", required=True, metavar="NAME,NAME", help="names of the classes, from class 0 on")
    parser.add_argument("--hold_out", default="", metavar="NAME,NAME", help="images to test with, without suffix")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    options = parser.parse_args(arguments)
    options.labels = options.labels.split(",")
    options.hold_out = set(filter(None, options.hold_out.split(",")))
    if options.labels[0] != "background":
        parser.error(f"--labels begins with '{options.labels[0]}', expected 'background', as nnU-Net asks for")
    if len(set(options.labels)) < len(options.labels) or "" in options.labels:
        parser.error("--labels has an empty name or one twice; give each class a name of its own")
    return options


def main(arguments=None):
    options = parse(arguments)
    files = pairs(options.data)
    # A set, so that every file is looked at.
    in_colours = True in {has_colours(image) for image, _ in files.values()}
    values = check(files, options.labels)
    if unknown := options.hold_out - files.keys():
        sys.exit(f"--hold_out names '{min(unknown)}', which is not in '{options.data / 'images'}'")
    targets = {name: places(options.out, name, "Ts" if name in options.hold_out else "Tr") for name in files}
    dataset_json = options.out / "dataset.json"
    for path in [*(path for both in targets.values() for path in both), dataset_json]:
        if path.exists() and not options.overwrite:
            sys.exit(f"'{path}' is there already; use --overwrite to replace it, or another OUT")
    for path in {path.parent for both in targets.values() for path in both}:
        path.mkdir(parents=True, exist_ok=True)
    for name, (image_path, mask_path) in files.items():
        image_target, label_target = targets[name]
        with Image.open(image_path) as image:
            image.convert("RGB" if in_colours else "L").save(image_target)
        Image.fromarray(np.searchsorted(values, read_mask(mask_path)).astype(np.uint8)).save(label_target)
    trained = len(files) - len(options.hold_out)
    dataset_json.write_text(json.dumps(description(options.labels, in_colours, trained), indent=2) + "\n")
    print(
        f"{options.out}: {len(files)} images, {'RGB' if in_colours else 'grey'}; values {values} are {options.labels}"
    )


if __name__ == "__main__":
    main()
