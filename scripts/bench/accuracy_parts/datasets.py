"""Folders of the datasets, among them those that are made from others."""

import json

from . import machine


class Datasets:
    """`main` is the folder of isbi2012; others lie beside it under their names unless `folders` names them.

    A dataset with `inside` in the list is made from `images/` and `labels/` of its source: stacks in the challenge's
    layout, in `made`, whose labels are 255 where a stored value is among `inside`, else 0.
    """

    def __init__(self, main, folders, described, made):
        self.folders = dict(isbi2012=main, **folders)
        self.main, self.described, self.made = main, described, made
        self.checksums = {}

    def source(self, name):
        return self.folders.get(name, self.main.parent / name)

    def folder(self, name):
        """The folder that unet reads; it is made where it is not there yet."""
        inside = self.described.get(name, {}).get("inside")
        if inside is None:
            return self.source(name)
        folder = self.made / name
        stamp = json.dumps(dict(inside=inside, source=self.checksum(name)))
        if not (folder / "made_from.json").exists() or (folder / "made_from.json").read_text() != stamp:
            make_stacks(self.source(name), folder, inside)
            (folder / "made_from.json").write_text(stamp)
        return folder

    def checksum(self, name):
        """The checksum of the dataset's source."""
        if name not in self.checksums:
            self.checksums[name] = machine.data_sha256(self.source(name))
        return self.checksums[name]


def make_stacks(source, target, inside):
    """Writes images and labels, in the order of their names, as train-volume.tif and train-labels.tif."""
    # These are from scripts/setup/requirements.txt; only this dataset needs them.
    import numpy as np
    import tifffile
    from PIL import Image

    target.mkdir(parents=True, exist_ok=True)
    images, labels = (sorted(path for path in (source / part).iterdir()) for part in ("images", "labels"))
    if [path.stem for path in images] != [path.stem for path in labels]:
        raise ValueError(f"'{source}': images/ and labels/ do not hold files of the same names")
    volume = np.stack([np.asarray(Image.open(path)) for path in images])
    masks = np.stack([np.isin(np.asarray(Image.open(path)), inside) for path in labels])
    for name, pages in (("train-volume", volume), ("train-labels", masks.astype(np.uint8) * 255)):
        tifffile.imwrite(target / f"{name}.tif", pages, photometric="minisblack")
