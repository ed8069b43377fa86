"""Label ensembles, step by step: affine warps, composition, median, foreground, envelope. Arrays are (i, j, k)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage import morphology

Mask = NDArray[np.bool_]
Labels = NDArray[np.uint8]
Coordinates = NDArray[np.float64]
Noise = Callable[[int, int], NDArray[np.floating[Any]]]
"""Standard normal field: (key, count) -> (count,)."""


Shape = Sequence[int]


def cube(side: int) -> tuple[int, int, int]:
    return (side, side, side)


def affine_matrix(warp: dict[str, Any]) -> NDArray[np.float64]:
    """Return Scale . Rx . Ry . Rz . Shear, mirrored axes with a negative scale."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad(warp["rotation"])), np.sin(np.deg2rad(warp["rotation"]))
    scale = np.diag(np.where(warp["mirror"], -1.0, 1.0) * warp["scale"])
    about_i = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_j = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_k = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    ij, ik, jk = warp["shear"]
    shear = np.array([[1, ij, ik], [0, 1, jk], [0, 0, 1]])
    return scale @ about_i @ about_j @ about_k @ shear


def pad_to_shape(mask: Mask, shape: Shape) -> Mask:
    """Zero-pad every axis shorter than ``shape`` up to it: ceil of half the missing voxels before, floor after."""
    missing = [max(0, side - size) for side, size in zip(shape, mask.shape, strict=True)]
    return np.pad(mask, [((n + 1) // 2, n // 2) for n in missing])


def input_coordinates(warp: dict[str, Any], shape: Shape, spacing: Sequence[float] = (1, 1, 1)) -> Coordinates:
    """Return M . o + t of every output voxel o, shape (3, *shape), before rounding; o in units of template voxels."""
    i, j, k = (np.ogrid[tuple(slice(size) for size in shape)][axis] * spacing[axis] for axis in range(3))
    rows = zip(affine_matrix(warp), warp["translation"], strict=True)
    return np.stack([along_i * i + along_j * j + along_k * k + shift for (along_i, along_j, along_k), shift in rows])


def round_half_up(coordinates: Coordinates) -> NDArray[np.int64]:
    return np.floor(coordinates + 0.5).astype(np.int64)


def near_tie(coordinates: Coordinates, tolerance: float) -> Mask:
    """Return where any of the three coordinates lies so near a half that another arithmetic may round it otherwise."""
    return np.any(np.abs(coordinates - np.floor(coordinates) - 0.5) < tolerance, axis=0)


def warp_template(mask: Mask, warp: dict[str, Any], shape: Shape, spacing: Sequence[float] = (1, 1, 1)) -> Mask:
    """Return the corner of this shape of the periodically repeated, padded template under its affine map."""
    padded = pad_to_shape(mask, np.rint(np.multiply(shape, spacing)).astype(int).tolist())
    source = round_half_up(input_coordinates(warp, shape, spacing))
    i, j, k = (axis % size for axis, size in zip(source, padded.shape, strict=True))
    return padded[i, j, k]


def compose(masks: Sequence[Mask], parameters: dict[str, Any], shape: Shape) -> Labels:
    """Write each template's label where it is set; later templates cover earlier ones."""
    labels, spacing = np.zeros(shape, np.uint8), parameters.get("spacing", (1, 1, 1))
    for warp in parameters["templates"]:
        labels[warp_template(masks[warp["template"]], warp, shape, spacing)] = warp["label"]
    return labels


def median_3x3x3(labels: Labels) -> Labels:
    return ndimage.median_filter(labels, size=3, mode="nearest")


def upsample(grid: NDArray[np.floating[Any]], spacing: float, shape: Sequence[int]) -> NDArray[np.float64]:
    """Upsample ``grid`` (channels, n, n, n) trilinearly by ``spacing`` and cut it to ``shape``.

    PyTorch rounds the size down: a trace more than the spacing keeps a whole product whole.
    """
    tensor = torch.as_tensor(np.asarray(grid, np.float64))[None]
    fine = torch.nn.functional.interpolate(
        tensor,
        scale_factor=float(spacing) * (1 + 1e-12),
        mode="trilinear",
        align_corners=False,
        recompute_scale_factor=False,
    )[0].numpy()
    assert all(got >= wanted for got, wanted in zip(fine.shape[1:], shape, strict=True))
    return fine[(slice(None), *(slice(size) for size in shape))]


def displacement(foreground: dict[str, Any], shape: Shape, noise: Noise) -> Coordinates:
    """Sum the scales of the coarse displacement noise, shape (3, I, J, K), voxels."""
    total = np.zeros((3, *shape))
    for scale in foreground["displacement"]:
        grid_shape = (3, *(int(np.ceil(side / scale["spacing"] - 1e-9)) for side in shape))
        grid = noise(int(scale["key"], 16), int(np.prod(grid_shape))).reshape(grid_shape)
        total += scale["std"] * upsample(grid, scale["spacing"], shape)
    return total


def ball_volume(foreground: dict[str, Any], shape: Shape) -> Mask:
    centre = np.array(foreground["centre"]).reshape(3, 1, 1, 1)
    return ((np.indices(shape) - centre) ** 2).sum(axis=0) <= foreground["radius"] ** 2


def foreground_coordinates(foreground: dict[str, Any], shape: Shape, noise: Noise) -> Coordinates:
    return np.indices(shape) + displacement(foreground, shape, noise)


def foreground_mask(foreground: dict[str, Any], shape: Shape, noise: Noise) -> Mask:
    """Return the warped ball: nearest sampling, reflecting borders (edge voxel repeated), then the median."""
    source = foreground_coordinates(foreground, shape, noise)
    # rounding before reflecting: half-sample reflection maps voxel centres onto voxel centres
    sides = np.reshape(shape, (3, 1, 1, 1))
    index = round_half_up(source) % (2 * sides)
    index = np.where(index >= sides, 2 * sides - 1 - index, index)
    warped = ball_volume(foreground, shape)[tuple(index)]
    return median_3x3x3(warped.astype(np.uint8)).astype(bool)


def envelope_shell(mask: Mask, radius: int) -> Mask:
    """Return the voxels dilated and not eroded by a ball; what lies outside the volume does neither."""
    ball = morphology.ball(radius)
    dilated = morphology.dilation(mask.astype(np.uint8), ball).astype(bool)
    eroded = morphology.erosion(mask.astype(np.uint8), ball).astype(bool)
    return dilated & ~eroded


def ensemble_reference(
    masks: Sequence[Mask], parameters: dict[str, Any], shape: Shape, noise: Noise
) -> dict[str, NDArray[Any]]:
    """Make one ensemble from its drawn parameters and return every stage.

    Parameters
    ----------
    masks : sequence of bool arrays
        The cropped templates, by template index.
    parameters : dict
        ``templates`` and ``foreground``, as in the record of a sample.
    shape : three ints
        Of the volume, voxels.
    noise : callable
        Standard normal field of a key.

    Returns
    -------
    dict of (I, J, K) arrays
        ``composed``, ``median``, ``mask`` and ``envelope`` (where drawn), ``labels``.
    """
    return finish(compose(masks, parameters, shape), parameters, noise)


def finish(composed: Labels, parameters: dict[str, Any], noise: Noise) -> dict[str, NDArray[Any]]:
    """Filter composed templates and apply the foreground; return every stage."""
    stages: dict[str, NDArray[Any]] = {"composed": composed}
    stages["median"] = labels = median_3x3x3(composed)
    foreground = parameters["foreground"]
    if foreground is not None:
        mask = stages["mask"] = foreground_mask(foreground, composed.shape, noise)
        labels = np.where(mask, labels + 1, 0).astype(np.uint8)
        if foreground["envelope"] is not None:
            shell = stages["envelope"] = envelope_shell(mask, foreground["envelope"])
            labels = np.where(shell, labels.max() + 1, labels).astype(np.uint8)
    stages["labels"] = labels
    return stages
