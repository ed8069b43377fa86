"""Pictures that end a run of instances: a gallery of samples, and one of what was rejected."""

from __future__ import annotations

import csv
from pathlib import Path

from voxmint.datasets.format import Format
from voxmint.errors import LayerError, RejectedSample
from voxmint.inspect.gallery import rejected_gallery
from voxmint.inspect.montage import write_montage
from voxmint.instances.sampler import InstanceSampler
from voxmint.make.stored import MONTAGE, montage

REJECTED_PICTURE = "rejected.png"
_GALLERY, _MOST = 24, 12


def draw_gallery(folder: Path, sampler: InstanceSampler, store: Format) -> None:
    """Draw the samples of a finished data set and, from the layers, what lies around rejected rows; once.

    Parameters
    ----------
    folder : Path
        The data set.
    sampler : InstanceSampler
        What made it.
    store : Format
        What it was written with.
    """
    if not (folder / MONTAGE).exists():
        montage(folder, count=_GALLERY, store=store)
    rejected = folder / "rejected.csv"
    if not rejected.exists() or (folder / REJECTED_PICTURE).exists():
        return
    with rejected.open(newline="", encoding="utf-8") as lines:
        first: dict[int, tuple[int, str]] = {}
        for row in csv.DictReader(lines):
            number = int(row["index"]) // sampler.recipe.scenarios
            if len(first) < _MOST:
                first.setdefault(number, (int(row["index"]), row["reason"]))
    around = []
    for index, reason in first.values():
        try:
            around.append((sampler.look(index), reason))
        except (RejectedSample, LayerError):
            continue  # its chunks cannot be read, which the reason says
    if around:
        write_montage(folder / REJECTED_PICTURE, rejected_gallery(around, title=f"{len(around)} rejected rows"))
