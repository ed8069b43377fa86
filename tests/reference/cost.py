"""A whole pair at the cost of the published scripts, for benchmarks: nothing is prepared, nothing is shared.

Each of the 20 to 39 templates of an ensemble is decoded as a whole file, its bounding box found anew, and all of the
padded crop is warped although only its corner of S^3 voxels is kept; views are rendered by MONAI's transforms.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from reference.ensemble import Labels, Mask, Shape, finish, input_coordinates, pad_to_shape, round_half_up
from reference.random_pairs import Published, View, noise_of, random_ensemble, random_view
from reference.shapes import crop
from reference.view import view_reference


def decode(path: Path) -> Mask:
    """Read a whole mask file and cut it to its bounding box."""
    return crop(np.asanyarray(nib.load(path).dataobj) > 0)


def warp_whole(mask: Mask, warp: dict[str, Any], shape: Shape) -> Mask:
    """Warp every voxel of the padded crop, then keep the corner."""
    padded = pad_to_shape(mask, shape)
    source = round_half_up(input_coordinates(warp, padded.shape))
    i, j, k = (axis % size for axis, size in zip(source, padded.shape, strict=True))
    return padded[i, j, k][tuple(slice(size) for size in shape)]


def published_like_ensemble(paths: Sequence[Path], parameters: dict[str, Any], shape: Shape) -> Labels:
    """Make one ensemble from mask files, none of them empty; equal to what the reference makes of the cropped masks."""
    labels = np.zeros(shape, np.uint8)
    for warp in parameters["templates"]:
        labels[warp_whole(decode(paths[warp["template"]]), warp, shape)] = warp["label"]
    return finish(labels, parameters, noise_of)["labels"]


def published_like_pair(
    rng: np.random.Generator, paths: Sequence[Path], shape: Shape = (128, 128, 128)
) -> tuple[Labels, View, View]:
    """Make one random pair from mask files, as the published scripts would."""
    constants = Published(shape=tuple(shape))
    labels = published_like_ensemble(paths, random_ensemble(rng, constants, len(paths)), shape)
    view1, view2 = (view_reference(labels, random_view(rng, constants, labels), noise_of)["view"] for _ in range(2))
    return labels, view1, view2
