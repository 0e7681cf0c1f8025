#!/usr/bin/env python3
"""Makes the seeds that fuzzing starts from: valid files and hostile ones. Needs only the standard library.

More valid TIFF stacks are in ../../tests/fixtures/tiff.
"""

import hashlib
import json
import pathlib
import struct
import zlib
from functools import partial

HERE = pathlib.Path(__file__).parent


def write(target, name, content):
    folder = HERE / target
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)


def page(height, width, offset, count, compression=1, **more):
    """Fields of an 8-bit grey page with one strip: tag -> (type, count, value). `f273` replaces that of tag 273."""
    fields = {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, 8),
        259: (3, 1, compression),
        262: (3, 1, 1),
        273: (4, 1, offset),
        277: (3, 1, 1),
        278: (4, 1, height),
        279: (4, 1, count),
    }
    fields.update({int(tag[1:]): field for tag, field in more.items()})
    return {tag: field for tag, field in fields.items() if field}


def tiff(pages, data=b"", last=0):
    """A little-endian file: the directories of all pages, then `data`. The last directory is followed by `last`."""
    out = struct.pack("<2sHI", b"II", 42, 8)
    for index, fields in enumerate(pages):
        out += struct.pack("<H", len(fields))
        for tag in sorted(fields):
            kind, count, value = fields[tag]
            out += struct.pack("<HHI", tag, kind, count)
            out += struct.pack("<HH", value, 0) if kind == 3 and count == 1 else struct.pack("<I", value)
        out += struct.pack("<I", len(out) + 4 if index + 1 < len(pages) else last)
    return out + data


END = 8 + 2 + 9 * 12 + 4
HUGE = 2**32 - 1


def make_tiffs():
    zeros = zlib.compress(bytes(1 << 20), 9)
    add = partial(write, "tiff")
    add("sound.tif", tiff([page(2, 3, END, 6)], bytes(range(6))))
    add("loop.tif", tiff([page(1, 1, 8, 1)], last=8))
    add("loop-of-two.tif", tiff([page(1, 1, 8, 1), page(1, 1, 9, 1)], last=8))
    add("next-at-2-32.tif", tiff([page(1, 1, 8, 1)], last=HUGE))
    add("side-of-2-32.tif", tiff([page(HUGE, HUGE, END, 6)], bytes(6)))
    add("side-product-of-2-64.tif", tiff([page(HUGE, HUGE, END, HUGE, 8)], bytes(64)))
    add("one-row-of-2-32.tif", tiff([page(1, HUGE, END, HUGE)], bytes(64)))
    add("4-gib-of-zeros-in-a-kilobyte.tif", tiff([page(65536, 65536, END, len(zeros), 8)], zeros))
    add("1-mib-of-zeros-in-a-kilobyte.tif", tiff([page(1024, 1024, END, len(zeros), 8)], zeros))
    add("4-gib-of-lzw.tif", tiff([page(65536, 65536, END, 1000, 5)], bytes(1000)))
    add("4-gib-of-packbits.tif", tiff([page(65536, 65536, END, 1000, 32773)], b"\x81\x00" * 500))
    add("strips-of-2-32.tif", tiff([page(2, 3, END, 6, f273=(4, HUGE, 8), f279=(4, HUGE, 8))], bytes(6)))
    add("a-million-strips.tif", tiff([page(1 << 20, 1, END, 6, f278=(4, 1, 1), f273=(4, 1 << 20, 8))], bytes(64)))
    tiles = dict(f322=(4, 1, HUGE), f323=(4, 1, HUGE), f324=(4, 1, 8), f325=(4, 1, 9))
    add("tiles-of-2-32.tif", tiff([page(2, 3, END, 6, 8, **tiles)], bytes(64)))
    no_strips = dict(f273=None, f278=None, f279=None)
    tiles = dict(f322=(4, 1, 16), f323=(4, 1, 16), f324=(4, 1, END + 12), f325=(4, 1, 256))
    add("tiles.tif", tiff([page(16, 16, 0, 0, **no_strips, **tiles)], bytes(256)))
    add("pages-that-share-samples.tif", tiff([page(10, 20, 8, 200) for _ in range(100)]))
    text = b"ImageJ=1.54f\nimages=4294967295\nslices=4294967295\n\0"
    add("4-billion-pages-in-a-text.tif", tiff([page(1, 1, 8, 1, f270=(2, len(text), END + 12))], text))
    text = b"ImageJ=1.54f\nimages=3\nslices=3\nunit=nm\nspacing=1e309\n\0"
    add("imagej.tif", tiff([page(1, 2, END + 12, 2, f270=(2, len(text), END + 18))], bytes(6) + text))
    make_channels(add)
    make_planes(add)
    make_faxes(add)
    big = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16)
    add("bigtiff-fields-of-2-64.tif", big + b"\xff" * 8)
    add("bigtiff-at-2-64.tif", big[:8] + b"\xff" * 8)
    add("empty.tif", b"")
    add("header-alone.tif", b"II\x2a\0\0\0\0\0")


def make_channels(add):
    """Pixels of several samples, interleaved or in planes, and of a palette."""
    after = END + 12
    plane_tables = struct.pack("<6I", *(after + 24 + 6 * plane for plane in range(3)), 6, 6, 6)
    planes = dict(f277=(3, 1, 3), f262=(3, 1, 2), f284=(3, 1, 2), f273=(4, 3, after), f279=(4, 3, after + 12))
    add("planes.tif", tiff([page(2, 3, 0, 0, **planes)], plane_tables + bytes(18)))
    add("planes-one-short.tif", tiff([page(2, 3, 0, 0, **planes | dict(f273=(4, 2, after)))], plane_tables + bytes(18)))
    shared = struct.pack("<6I", 8, 8, 8, 128, 128, 128)
    add("planes-that-share-samples.tif", tiff([page(2, 64, 0, 0, **planes)], shared))
    rgba = dict(f277=(3, 1, 4), f262=(3, 1, 2), f338=(3, 1, 2))
    add("rgb-and-alpha.tif", tiff([page(2, 3, after, 24, **rgba)], bytes(range(24))))
    add("65535-samples.tif", tiff([page(2, 3, END, 6, f277=(3, 1, 65535))], bytes(64)))
    bits = dict(f277=(3, 1, 3), f262=(3, 1, 2), f258=(3, 3, END + 18))
    add("mixed-bits.tif", tiff([page(2, 3, END, 18, **bits)], bytes(18) + struct.pack("<3H", 8, 16, 8)))
    colours = struct.pack("<768H", *(257 * (value % 256) for value in range(768)))
    palette = dict(f262=(3, 1, 3), f320=(3, 768, after + 6))
    add("palette.tif", tiff([page(2, 3, after, 6, **palette)], bytes(range(6)) + colours))
    add("4-gib-of-zstandard.tif", tiff([page(65536, 65536, END, 1000, 50000)], bytes(1000)))
    for name, sizes in (("hyperstack", "3\nslices=2"), ("hyperstack-of-2-64", f"{2**63}\nslices={2**63}")):
        text = f"ImageJ=1.54f\nimages=6\nchannels={sizes}\n\0".encode()
        add(f"{name}.tif", tiff([page(1, 2, after, 2, f270=(2, len(text), after + 12))], bytes(range(12)) + text))


def make_planes(add):
    """Planes that texts and tags speak of, packed samples, and thumbnails."""
    after = END + 12
    for name, planes in (("stk", 3), ("stk-of-2-32", HUGE)):
        add(f"{name}.tif", tiff([page(2, 3, after, 6, f33629=(5, planes, 8))], bytes(range(18))))
    for name, planes in (("shaped", 3), ("shaped-of-2-64", 2**64 - 1)):
        text = f'{{"shape": [{planes}, 2, 3], "axes": "ZYX", "truncated": true}}\0'.encode()
        add(f"{name}.tif", tiff([page(2, 3, after, 6, f270=(2, len(text), after + 18))], bytes(range(18)) + text))
    thumbnail = page(1, 3, after + END - 8 + 6, 3, f254=(4, 1, 1))
    add("thumbnail.tif", tiff([page(2, 3, 2 * END - 8 + 12, 6), thumbnail | {273: (4, 1, 2 * END + 10)}], bytes(9)))
    add("one-bit.tif", tiff([page(2, 3, END, 2, f258=(3, 1, 1))], b"\xa0\x60"))
    add("fifteen-bits.tif", tiff([page(HUGE, HUGE, END, 64, f258=(3, 1, 15))], bytes(64)))
    add("volume.tif", tiff([page(2, 3, after, 6, f32997=(4, 1, HUGE))], bytes(6)))
    head = '<?xml version="1.0"?><OME UUID="urn:uuid:1"><Image><Pixels DimensionOrder="XYZCT" SizeX="3" SizeY="2" '
    tail = "</Pixels></Image></OME>\0"
    texts = {
        "ome-channels": 'SizeC="2" SizeZ="1" SizeT="1"><TiffData IFD="0" PlaneCount="2"/>',
        "ome-of-2-64": f'SizeC="{2**63}" SizeZ="2" SizeT="{2**63}"><TiffData IFD="0" PlaneCount="{2**64 - 1}"/>',
        "ome-elsewhere": 'SizeC="1" SizeZ="1" SizeT="1"><TiffData><UUID FileName="/dev/zero">a</UUID></TiffData>',
        "ome-deep": 'SizeC="2" SizeZ="1" SizeT="1">' + "<a>" * 1000,
    }
    for name, text in texts.items():
        text = (head + text + tail).encode()
        first = 8 + (2 + 10 * 12 + 4) + (2 + 9 * 12 + 4)
        pages = [page(2, 3, first, 6, f270=(2, len(text), first + 12)), page(2, 3, first + 6, 6)]
        add(f"{name}.tif", tiff(pages, bytes(range(12)) + text))


def make_faxes(add):
    """Two rows of four pixels in each fax code: white 1, black 2, white 1; the same again, or four of black."""
    end_of_line, row, black = "000000000001", "00011111000111", "00110101011"
    streams = {
        "fax-2": (2, 0, row + "00" + black),
        "fax-3": (3, 0, end_of_line + row + end_of_line + black),
        "fax-3-plane": (3, 1, end_of_line + "1" + row + end_of_line + "0111"),
        "fax-4": (4, 0, "001000111111111"),
        "fax-cut": (4, 0, "00100011"),
    }
    for name, (compression, options, bits) in streams.items():
        bits += "0" * (-len(bits) % 8)
        data = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
        more = dict(f258=(3, 1, 1), f262=(3, 1, 0), f292=(4, 1, options))
        add(f"{name}.tif", tiff([page(2, 4, END + 12, len(data), compression, **more)], data))


def safetensors(facts, tensors, data=b"", lie=None):
    """A file of weights. `tensors`: name -> (dtype, shape, start, end). `lie`: a wrong length of the header."""
    header = {"__metadata__": {"unet": json.dumps(facts | {"header_sha256": "0" * 64})}}
    for name, (dtype, shape, start, end) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text = text.replace(b"0" * 64, hashlib.sha256(text).hexdigest().encode())
    return struct.pack("<Q", len(text) if lie is None else lie) + text + data


def make_checkpoints():
    add = partial(write, "checkpoint")
    data = struct.pack("<4f", 1, 2, 3, 4)
    sums = {"head.bias": hashlib.sha256(data[:8]).hexdigest(), "head.weight": hashlib.sha256(data[8:]).hexdigest()}
    network = {"base_filters": 64, "channels": 1, "classes": 2}
    weights = {"format": 1, "architecture": network, "sha256": sums}
    progress = {"step": 3, "batches": 3, "samples": 3, "updates": 3.0}
    scaler = {"loss_scale": 65536.0, "growth_tracker": 3}
    state = weights | progress | scaler | {"settings": {"seed": 7, "training data": ["a"]}}
    tensors = {"head.bias": ("F32", [2], 0, 8), "head.weight": ("F32", [2, 1, 1, 1], 8, 16)}
    add("weights", safetensors(weights, tensors, data))
    add("checkpoint", safetensors(state, tensors, data))
    add("changed-byte", safetensors(weights, tensors, data[:-1] + b"\x01"))
    add("cut", safetensors(weights, tensors, data)[:-5])
    add("longer", safetensors(weights, tensors, data + b"\0"))
    add("header-of-2-64", safetensors(weights, tensors, data, lie=2**64 - 1))
    add("header-of-16-mib", safetensors(weights, tensors, data, lie=16 << 20))
    add("header-longer-than-the-file", safetensors(weights, tensors, data, lie=4096))
    add("shape-of-2-64", safetensors(weights, {"head.bias": ("F32", [2**32, 2**32], 0, 16)}, data))
    add("offsets-of-2-64", safetensors(weights, {"head.bias": ("F32", [2], 2**64 - 16, 2**64 - 8)}, data))
    add("offsets-backwards", safetensors(weights, {"head.bias": ("F32", [2], 8, 0)}, data))
    add("tensors-that-overlap", safetensors(weights, {"head.bias": ("F32", [2], 0, 8), "a": ("F32", [4], 0, 16)}, data))
    add("64-gib-of-nothing", safetensors(weights, {"head.bias": ("F32", [1 << 34], 0, 1 << 36)}, data))
    add("another-dtype", safetensors(weights, {"head.bias": ("F64", [2], 0, 16)}, data))
    for name, filters in (("filters-of-2-63", 2**63 - 1), ("filters-below-0", -64)):
        other = weights | {"architecture": network | {"base_filters": filters}}
        add(name, safetensors(other, tensors, data))
    add("changed-header", safetensors(state, tensors, data).replace(b'\\"step\\": 3', b'\\"step\\": 4'))
    add("newer-format", safetensors(weights | {"format": 2}, tensors, data))
    add("no-facts", struct.pack("<Q", 2) + b"{}")
    deep = b"[" * 100_000
    add("deep-json", struct.pack("<Q", len(deep)) + deep)
    add("empty", b"")


def make_command_lines():
    lines = {
        "train": "--data_dir data --model_dir model --exec_mode train_and_evaluate "
        "--crossvalidation_idx 0 --augment --amp",
        "predict": "--data-dir data --exec-mode predict --batch-size 2 --xla --device cpu",
        "benchmark": "--data_dir data --exec_mode train --benchmark --warmup_steps 200 --max_steps 400 "
        "--seed 4294967295",
        "workers": "--data_dir data --nproc_per_node 8 --dist_timeout 60 --resume_training --max_steps=40000",
        "phantom": "phantom --out data --slices 30 --size 512",
        "report": "report a.log b.log",
        "inspect": "inspect --data_dir data",
        "preview": "preview --data_dir data --out p.png --recipe native --patch 68 --augment",
        "layers": "layers --amp",
        "help": "--help",
        "version": "--version",
        "unknown": "--unknown",
        "value": "--batch_size -1",
        "bounds": "--data_dir d --learning_rate 1e400 --max_steps 99999999999999999999",
    }
    for name, line in lines.items():
        write("command_line", name, line.replace(" ", "\n").encode())
    write("command_line", "no-text", b"--data_dir\n\xff\xfe\n--\n\xf0\x9f\x98\x80")


make_tiffs()
make_checkpoints()
make_command_lines()
