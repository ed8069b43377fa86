"""What lies in a data set: its samples, and a picture of some."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from voxmint.datasets.stored import StoredDataset
from voxmint.errors import InputError
from voxmint.generators import generator_of, load
from voxmint.make.published import loaded, turned
from voxmint.sample import Sample
from voxmint.stores.place import Place

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

    Examples
    --------
    >>> import voxmint as vm
    >>> done = vm.procedural_templates("bank", 8, workers=1)
    >>> vm.montage("bank", "bank.png").name
    'bank.png'
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

    Examples
    --------
    >>> import voxmint as vm
    >>> done = vm.procedural_templates("bank", 8, workers=1)
    >>> made = vm.make_pairs(vm.PairRecipe(side=16), "pairs", 2, templates="bank", workers=1)
    >>> (sample,) = vm.stored_samples("pairs", [1])
    >>> sample.digest() == vm.PairSampler(vm.PairRecipe(side=16), "bank")[1].digest()
    True
    """
    dataset = StoredDataset(place, secrets=secrets)
    wanted = dataset.records.indices.tolist() if indices is None else sorted(set(indices))
    return [dataset.sample(index) for index in wanted]


def picture_of_array(file: str | Path, order: Sequence[str] = "xyz") -> Path:
    """Draw a saved array, axes in ``order``, slice by slice along z; return where the picture lies.

    Of the three arrays of an instance in the published tree the two others are drawn, too, where they are. The picture
    goes to ``pictures`` beside their folders, else beside the file.

    Raises
    ------
    InputError
        It is no volume.
    """
    from voxmint.inspect.gallery import instance_slices
    from voxmint.inspect.montage import write_montage

    path = Path(file).expanduser()
    match = re.fullmatch(r"(source|target|augmented_target)_(.+)\.npy", path.name)
    array = loaded(Place(path.parent).read(path.name), str(path))
    if array.ndim != 3:
        raise InputError("no volume", where=path, expected="three axes", got=f"shape {array.shape}")
    image = array.dtype == np.uint8 and (match is None or match[1] == "source") and array.max(initial=0) > 1
    found, root = {"source" if image else "target": array}, path.parent
    if match is not None and path.parent.name in ("source", "gt", "target"):
        root, names = path.parent.parent, ("source/source", "gt/target", "target/augmented_target")
        others = zip(("source", "target", "seed"), names, strict=True)
        there = {role: root / f"{name}_{match[2]}.npy" for role, name in others}
        found = {role: np.load(it, allow_pickle=False) for role, it in there.items() if it.is_file()}
    nothing = np.zeros(array.shape, np.uint8)
    arrays = {role: turned(found.get(role, nothing), order, "zyx") for role in ("source", "target", "seed")}
    out = (root / "pictures" if root != path.parent else root) / f"{path.stem}.png"
    out.parent.mkdir(exist_ok=True)
    write_montage(out, instance_slices(Sample(0, path.stem, arrays)))
    return out
