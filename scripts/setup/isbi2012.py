"""Unpacks and checks the stacks of the ISBI 2012 challenge, for download_dataset.sh. Standard library only.

    isbi2012.py complete DIR        exit code 0 if no stack is missing
    isbi2012.py unpack ZIP DIR      checks the stacks in the archive and puts those that DIR lacks into it
    isbi2012.py check DIR           checks the stacks in DIR

KNOWN_PIXELS are SHA-256 of the pixels, page by page and row by row, on which two public copies of the stacks agree.
Other pixels get a warning. Exit codes: 1 for a bad stack in DIR or a bad DIR, 3 for a bad archive.
"""

import hashlib
import os
import struct
import sys
import zipfile
import zlib
from pathlib import Path

PAGES, SIDE = 30, 512
KNOWN_PIXELS = {
    "train-volume.tif": "200da3d452d726e6c9ca1ce04b869d4edb727320d23b516d01cce707dc8c4760",
    "train-labels.tif": "a7cb64000a1a7e542682927e19c91339f58f9f178e0bcce4e207371116f0ca36",
    "test-volume.tif": "1b58fa7ec1d0ff9d39a855622db3ff66a97863036339b0d04be51b2f5a99b0e9",
}
# Only later copies of the archive have the labels of the test stack, and only scoring needs them.
OPTIONAL = "test-labels.tif"
# An uncompressed stack with much metadata is smaller; anything larger is not a stack of the challenge.
MOST_BYTES = 64 << 20

WIDTH, HEIGHT, BITS, COMPRESSION, OFFSETS, SAMPLES, COUNTS = 256, 257, 258, 259, 273, 277, 279
SAMPLE_FORMAT, UNSIGNED = 339, 1
# Types of a directory's fields that are read here, as letters of `struct`.
FIELD_TYPES = {1: "B", 3: "H", 4: "I"}


class StackError(Exception):
    """A stack is not one of the challenge."""


def pages(data):
    """The directories of a TIFF, each as tag -> values. BigTIFF, and types that no tag above has, are not read."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        raise StackError(f"begins with {data[:4]!r}: not a TIFF file")
    (place,) = struct.unpack_from(order + "I", data, 4)
    while place:
        (count,) = struct.unpack_from(order + "H", data, place)
        tags = {}
        for entry in range(place + 2, place + 2 + 12 * count, 12):
            tag, kind, length = struct.unpack_from(order + "HHI", data, entry)
            letter = FIELD_TYPES.get(kind)
            if letter and length <= SIDE:
                layout = f"{order}{length}{letter}"
                start = entry + 8
                if struct.calcsize(layout) > 4:
                    (start,) = struct.unpack_from(order + "I", data, start)
                tags[tag] = struct.unpack_from(layout, data, start)
        yield tags
        (place,) = struct.unpack_from(order + "I", data, place + 2 + 12 * count)


def pixels(data, tags):
    """The samples of a page, or None for a compression that the standard library does not have."""
    strips = [data[offset : offset + count] for offset, count in zip(tags[OFFSETS], tags[COUNTS], strict=False)]
    match tags.get(COMPRESSION, (1,))[0]:
        case 1:
            return b"".join(strips)
        case 8 | 32946:
            return b"".join(map(zlib.decompress, strips))
    return None


def check(name, data):
    """Raises StackError if `data` is not a stack of the challenge. Returns what is worth telling."""
    hashed, values = hashlib.sha256(), set()
    try:
        found = 0
        for found, tags in enumerate(pages(data), 1):
            size, kind = (tags[WIDTH][0], tags[HEIGHT][0]), (tags.get(BITS, (1,)), tags.get(SAMPLE_FORMAT, (UNSIGNED,)))
            if size != (SIDE, SIDE):
                raise StackError(f"page {found} has {size[0]}x{size[1]} pixels, expected {SIDE}x{SIDE}")
            if kind != ((8,), (UNSIGNED,)) or tags.get(SAMPLES, (1,)) != (1,):
                raise StackError(f"page {found} has other samples than one of 8 bits without sign for each pixel")
            if found > PAGES:
                break
            samples = pixels(data, tags)
            if samples is None:
                hashed = None
            elif len(samples) != SIDE * SIDE:
                raise StackError(f"page {found} is cut: {len(samples)} of {SIDE * SIDE} pixels")
            elif hashed:
                hashed.update(samples)
                values.update(samples)
    except (struct.error, KeyError, zlib.error) as error:
        raise StackError(f"page {found + 1} is damaged ({error})") from None
    if found != PAGES:
        raise StackError(f"{'more than ' if found > PAGES else ''}{min(found, PAGES)} pages, expected {PAGES}")
    if hashed is None:
        return "compressed: its pixels were not compared"
    if "labels" in name and len(values) != 2:
        raise StackError(f"{len(values)} different values, expected 0 and 255 as in all labels")
    known = KNOWN_PIXELS.get(name)
    if known is None:
        return "nothing known to compare its pixels with"
    return (
        "the known pixels"
        if hashed.hexdigest() == known
        else f"WARNING: other pixels than in known copies: SHA-256 {hashed.hexdigest()}"
    )


def check_folder(folder):
    for name in [*KNOWN_PIXELS, OPTIONAL]:
        path = folder / name
        if name == OPTIONAL and not path.exists():
            print(f"{name}: not in the archive; only scoring the test stack needs it")
            continue
        try:
            print(f"{name}: {PAGES} pages of {SIDE}x{SIDE}, 8 bits, {check(name, path.read_bytes())}")
        except StackError as error:
            sys.exit(
                f"download_dataset: '{path}' is not the challenge's: {error}; move it away and run this again, "
                "or keep it as your own data"
            )


def unpack(archive, folder):
    """Checks the stacks in the archive and writes those that the folder lacks."""
    if not zipfile.is_zipfile(archive):
        begin = archive.open("rb").read(16)
        fail_archive(f"what was fetched is not a whole zip archive (it begins with {begin!r})")
    with zipfile.ZipFile(archive) as members:
        by_name = {Path(info.filename).name: info for info in members.infolist() if "__MACOSX" not in info.filename}
        for name in [*KNOWN_PIXELS, OPTIONAL]:
            path = folder / name
            if path.exists():
                print(f"{name}: kept, as it is there already")
            elif name in by_name:
                place(name, path, read(members, by_name[name]))
            elif name != OPTIONAL:
                fail_archive(f"no '{name}' in the archive, which has {', '.join(sorted(by_name)) or 'nothing'}")


def read(members, info):
    if info.file_size > MOST_BYTES:
        fail_archive(f"'{info.filename}' in the archive has {info.file_size} bytes, expected about 8 million")
    try:
        return members.read(info)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        fail_archive(f"'{info.filename}' in the archive is damaged ({error})")


def place(name, path, data):
    try:
        check(name, data)
    except StackError as error:
        fail_archive(f"'{name}' in the archive is not the challenge's: {error}")
    partial = path.with_name(f".{name}.part")
    try:
        partial.write_bytes(data)
        # A link, unlike a rename, never replaces a file.
        os.link(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def fail_archive(message):
    print(f"download_dataset: {message}; run this again, or name another address with --url", file=sys.stderr)
    sys.exit(3)


def main(command, *paths):
    folder = Path(paths[-1])
    try:
        match command:
            case "complete":
                sys.exit(not all((folder / name).exists() for name in KNOWN_PIXELS))
            case "unpack":
                unpack(Path(paths[0]), folder)
            case "check":
                check_folder(folder)
    except OSError as error:
        sys.exit(
            f"download_dataset: cannot use '{error.filename or folder}': {error.strerror}; "
            "make room or rights there and run this again"
        )


main(*sys.argv[1:])
