"""How samples of each generator are drawn from a stored data set; named in `voxmint.generators.GENERATORS`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from voxmint.datasets.stored import StoredDataset
from voxmint.errors import InputError

if TYPE_CHECKING:
    from PIL import Image


def draw_pairs(dataset: StoredDataset, count: int) -> Image.Image:
    """Draw label ensembles and views, cut along three axes."""
    from voxmint.inspect.montage import pair_montage

    return pair_montage(list(dataset.samples(count)), title=_title(dataset))


def draw_instances(dataset: StoredDataset, count: int) -> Image.Image:
    """Draw the middle slices of samples around instances, seed and target outlined."""
    from voxmint.inspect.gallery import instance_gallery

    axis = dataset.about["recipe"]["slice_axis"]
    return instance_gallery(list(dataset.samples(count)), axis=axis, title=_title(dataset))


def draw_bank(dataset: StoredDataset, count: int) -> Image.Image:  # noqa: ARG001 - a bank is drawn whole
    """Draw the templates of a bank."""
    from voxmint.inspect.bank_picture import bank_picture
    from voxmint.templates.bank import TemplateBank

    if not dataset.place.is_local:
        raise InputError("a template bank is drawn from a folder", where=dataset.place.url,
                         remedy="copy the bank to a folder first")  # fmt: skip
    return bank_picture(TemplateBank.open(Path(dataset.place.url)))


def _title(dataset: StoredDataset) -> str:
    about = dataset.about
    seed = f", seed {about['seed']}" if "seed" in about else ""
    return f"{about['generator']}{seed}: {len(dataset):,} samples"
