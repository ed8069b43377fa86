"""What lies in a data set: its samples, and a picture of some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxmint.datasets.stored import StoredDataset
from voxmint.generators import generator_of, load
from voxmint.sample import Sample

MONTAGE = "montage.png"
_MONTAGE_SAMPLES = 8


def montage(
    place: str | Path,
    out: str | Path | None = None,
    *,
    count: int = _MONTAGE_SAMPLES,
    secrets: str | Path | None = None,
) -> Path:
    """Draw samples of a finished data set, evenly spaced, and return where the picture lies.

    Parameters
    ----------
    place : path or URL
        A data set, or a template bank.
    out : path, optional
        The picture; ``montage.png`` in the data set by default, or in the working directory if that is in a bucket.
    count : int
        Most samples to draw.
    secrets : path, optional
        JSON file of credentials for a bucket.
    """
    dataset = StoredDataset(place, secrets=secrets)
    if out is None:
        out = Path(dataset.place.url) / MONTAGE if dataset.place.is_local else Path(MONTAGE)
    return draw(dataset, Path(out), count)


def draw(dataset: StoredDataset, out: Path, count: int = _MONTAGE_SAMPLES) -> Path:
    """Draw samples of an opened data set as its generator draws them."""
    from voxmint.inspect.montage import write_montage

    write_montage(out, load(generator_of(dataset.about, dataset.place.url).picture)(dataset, count))
    return out


def stored_samples(
    place: str | Path, indices: Sequence[int] | None = None, *, secrets: str | Path | None = None
) -> list[Sample]:
    """Read samples of a finished data set back from its files.

    Parameters
    ----------
    place : path or URL
        A data set.
    indices : sequence of int, optional
        Which; all by default.
    secrets : path, optional
        JSON file of credentials for a bucket.
    """
    dataset = StoredDataset(place, secrets=secrets)
    wanted = dataset.records.indices.tolist() if indices is None else sorted(set(indices))
    return [dataset.sample(index) for index in wanted]
