"""What lies in a finished data set: its samples, and a picture of some."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voxmint.datasets.format import Format, Target, format_from_spec
from voxmint.datasets.manifest import RECIPE, RECORDS
from voxmint.errors import InputError
from voxmint.recipe import read_yaml
from voxmint.sample import JSON, Sample

if TYPE_CHECKING:
    from PIL import Image

MONTAGE = "montage.png"
_MONTAGE_SAMPLES = 8


def montage(
    directory: str | Path, out: str | Path | None = None, *, count: int = _MONTAGE_SAMPLES, store: Format | None = None
) -> Path:
    """Draw samples of a finished data set, evenly spaced, and return where the picture lies.

    Parameters
    ----------
    directory : path
        A data set.
    out : path, optional
        The picture; ``montage.png`` in the data set by default.
    count : int
        Most samples to draw.
    store : Format, optional
        What it was written with, if that knows credentials; else it is built from what the data set records.
    """
    from voxmint.inspect.montage import write_montage

    directory = Path(directory)
    out = Path(out) if out is not None else directory / MONTAGE
    write_montage(out, _draw(directory, count, store))
    return out


def stored_samples(
    directory: str | Path, indices: Sequence[int] | None = None, store: Format | None = None
) -> list[Sample]:
    """Read samples of a finished data set back from its files.

    Parameters
    ----------
    directory : path
        A data set.
    indices : sequence of int, optional
        Which; all by default.
    store : Format, optional
        As for `montage`.
    """
    directory = Path(directory).absolute()
    if not (directory / RECORDS).is_file():
        raise InputError("no finished data set in this directory", where=directory, expected=RECORDS,
                         remedy="finish its run by giving the same command again")  # fmt: skip
    about = read_yaml(directory / RECIPE)
    store = format_from_spec(about["format"]) if store is None else store
    layout = {name: (tuple(array["shape"]), array["dtype"]) for name, array in about["arrays"].items()}
    target = Target(directory, int(about["count"]), layout)
    wanted = None if indices is None else set(indices)
    samples = []
    for record in records_of(directory):
        if wanted is None or record["index"] in wanted:
            arrays = store.read(target, record["index"], record["key"])
            if arrays is None:
                raise InputError("this data set keeps no single samples", where=directory)
            samples.append(Sample(record["index"], record["key"], arrays, record["record"]))
    return samples


def _draw(directory: Path, count: int, store: Format | None) -> Image.Image:
    total = sum(1 for _ in records_of(directory))
    about = read_yaml(directory / RECIPE)
    seed = f", seed {about['seed']}" if "seed" in about else ""
    title = f"{about['generator']}{seed}: {total:,} samples"
    every = max(1, total // count)
    chosen = [record["index"] for number, record in enumerate(records_of(directory)) if number % every == 0]
    samples = stored_samples(directory, chosen[:count], store)
    if "target" in about["arrays"]:
        from voxmint.inspect.gallery import instance_gallery

        return instance_gallery(samples, axis=about["recipe"]["slice_axis"], title=title)
    from voxmint.inspect.montage import pair_montage

    return pair_montage(samples, title=title)


def records_of(directory: Path) -> Iterator[JSON]:
    """Yield the records of a finished data set, in order of their index."""
    path = directory / RECORDS
    if not path.is_file():
        raise InputError("no finished data set in this directory", where=directory, expected=RECORDS,
                         remedy="finish its run by giving the same command again")  # fmt: skip
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            record: JSON = json.loads(line)
            yield record
