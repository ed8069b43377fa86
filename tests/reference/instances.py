"""Samples around instances, one after the other: the steps of the published generator. Arrays are (x, y, z).

As published, for each instance: CloudVolume reads both layers; scikit-image resizes the target to the image's shape and
labels its components; each component is looked at by a mask of its own, and the one at the centre is kept; both are
padded; slices are drawn with NumPy; three arrays are saved. Different is only what the specification corrects, none of
it dearer than it was: labels are resized to the nearest, not linearly, and not made binary; the component kept is the
one with the voxel nearest to the row's point in nm; boxes follow the layers' offsets and are padded on all axes; a mask
of valid voxels and metadata are added. Ratios of voxel sizes are whole, and both layers cover the same block.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cloudvolume import CloudVolume
from numpy.typing import NDArray
from skimage.measure import label
from skimage.transform import resize

Triple = NDArray[np.int64]
PADDING = 148


@dataclass(frozen=True)
class PlainInstance:
    """What is made of one row: image, mask, valid voxels, and metadata."""

    source: NDArray[Any]
    target: NDArray[np.uint8]
    valid: NDArray[np.uint8]
    metadata: dict[str, Any]


def open_plain(folder: Path) -> tuple[Any, Any]:
    """Open the layers ``source`` and ``target`` of a folder."""
    source, target = (CloudVolume(f"file://{folder / name}", progress=False) for name in ("source", "target"))
    return source, target


def plain_instance(source: Any, target: Any, centre_nm: Any, crop: Any, max_distance_nm: float) -> PlainInstance | None:
    """Make what all scenarios of a row share; None without a mask near the point."""
    sizes = [np.array(layer.resolution, float) for layer in (source, target)]
    ratio = (sizes[1] / sizes[0]).astype(int)
    centre = np.floor(np.array(centre_nm) / sizes[1]).astype(int)
    start = centre - np.array(crop) // 2
    labels, padding = _read(target, start, np.array(crop))
    image, image_padding = _read(source, start * ratio, np.array(crop) * ratio)
    if labels.shape != image.shape:
        options = {"order": 0, "mode": "edge", "preserve_range": True, "anti_aliasing": False}
        labels = resize(labels, image.shape, **options).astype(labels.dtype)
    components = label(labels).astype(int)
    first = np.maximum(start, target.bounds.minpt)
    best, kept = np.inf, 0
    for number in np.unique(components)[1:]:
        voxels = np.argwhere(components == number) // ratio + first
        distance = np.sqrt((((voxels - centre) * sizes[1]) ** 2).sum(axis=1).min())
        if distance < best:
            best, kept = distance, number
    if best > max_distance_nm:
        return None
    components *= components == kept
    mask = (components > 0).astype(np.uint8)
    metadata = {
        "box": [(start * ratio).tolist(), ((start + crop) * ratio).tolist()],
        "dimensions": {
            "source": np.array(source.volume_size).tolist(),
            "target": np.array(target.volume_size).tolist(),
        },
        "scale": ratio.tolist(),
        "padding": [image_padding, padding],
        "voxels": int(mask.sum()),
        "distance_nm": float(best),
    }
    return PlainInstance(
        np.pad(image, image_padding, constant_values=PADDING),
        np.pad(mask, image_padding, constant_values=0),
        np.pad(np.ones(mask.shape, np.uint8), image_padding, constant_values=0),
        metadata,
    )


def plain_seed(target: NDArray[np.uint8], random: np.random.Generator) -> tuple[NDArray[np.uint8], list[int]]:
    """Keep a few slices: the published model ``spread``, over the slices where the instance is."""
    slices = np.flatnonzero(target.any(axis=(0, 1)))
    draws = max(1, min(int(random.exponential(len(slices))), len(slices) - 1))
    drawn = {int(random.normal(len(slices) / 2, len(slices) / 4)) for _ in range(draws)}
    kept = sorted({int(slices[min(max(n, 0), len(slices) - 1)]) for n in drawn})
    return seed_of(target, kept), kept


def seed_of(target: NDArray[np.uint8], kept: list[int]) -> NDArray[np.uint8]:
    """Zero all but some slices."""
    seed = np.zeros_like(target)
    for number in kept:
        seed[:, :, number] = target[:, :, number]
    return seed


def save_plain(folder: Path, name: str, made: PlainInstance, seed: NDArray[np.uint8], kept: list[int]) -> None:
    """Write arrays and metadata of a sample."""
    for kind, array in (("source", made.source), ("target", made.target), ("seed", seed), ("valid", made.valid)):
        np.save(folder / f"{kind}_{name}.npy", array, allow_pickle=False)
    with (folder / "metadata.jsonl").open("a") as file:
        file.write(json.dumps({"instance": name, "kept": kept, **made.metadata}) + "\n")


def _read(layer: Any, start: Triple, shape: Triple) -> tuple[NDArray[Any], list[list[int]]]:
    """Return what there is of a box, and how many voxels lack before and after along each axis."""
    stop = start + shape
    low, high = np.maximum(start, layer.bounds.minpt), np.minimum(stop, layer.bounds.maxpt)
    cut = layer[low[0] : high[0], low[1] : high[1], low[2] : high[2]][..., 0]
    return np.asarray(cut), [[int(a), int(b)] for a, b in zip(low - start, stop - high, strict=True)]
