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


def pad_to_side(mask: Mask, side: int) -> Mask:
    """Zero-pad every axis shorter than ``side`` up to it: ceil of half the missing voxels before, floor after."""
    missing = [max(0, side - size) for size in mask.shape]
    return np.pad(mask, [((n + 1) // 2, n // 2) for n in missing])


def input_coordinates(warp: dict[str, Any], shape: Sequence[int]) -> Coordinates:
    """Return M . o + t of every output voxel o, shape (3, *shape), before rounding."""
    i, j, k = np.ogrid[tuple(slice(size) for size in shape)]
    rows = zip(affine_matrix(warp), warp["translation"], strict=True)
    return np.stack([along_i * i + along_j * j + along_k * k + shift for (along_i, along_j, along_k), shift in rows])


def round_half_up(coordinates: Coordinates) -> NDArray[np.int64]:
    return np.floor(coordinates + 0.5).astype(np.int64)


def near_tie(coordinates: Coordinates, tolerance: float) -> Mask:
    """Return where any of the three coordinates lies so near a half that another arithmetic may round it otherwise."""
    return np.any(np.abs(coordinates - np.floor(coordinates) - 0.5) < tolerance, axis=0)


def warp_template(mask: Mask, warp: dict[str, Any], side: int) -> Mask:
    """Return the S^3 corner of the periodically repeated, padded template under its affine map."""
    padded = pad_to_side(mask, side)
    source = round_half_up(input_coordinates(warp, (side, side, side)))
    i, j, k = (axis % size for axis, size in zip(source, padded.shape, strict=True))
    return padded[i, j, k]


def compose(masks: Sequence[Mask], parameters: dict[str, Any], side: int) -> Labels:
    """Write each template's label where it is set; later templates cover earlier ones."""
    labels = np.zeros((side, side, side), np.uint8)
    for warp in parameters["templates"]:
        labels[warp_template(masks[warp["template"]], warp, side)] = warp["label"]
    return labels


def median_3x3x3(labels: Labels) -> Labels:
    return ndimage.median_filter(labels, size=3, mode="nearest")


def upsample(grid: NDArray[np.floating[Any]], spacing: float, shape: Sequence[int]) -> NDArray[np.float64]:
    """Upsample ``grid`` (channels, n, n, n) trilinearly by ``spacing`` and cut it to ``shape``."""
    tensor = torch.as_tensor(np.asarray(grid, np.float64))[None]
    fine = torch.nn.functional.interpolate(
        tensor, scale_factor=float(spacing), mode="trilinear", align_corners=False, recompute_scale_factor=False
    )[0].numpy()
    assert all(got >= wanted for got, wanted in zip(fine.shape[1:], shape, strict=True))
    return fine[(slice(None), *(slice(size) for size in shape))]


def displacement(foreground: dict[str, Any], side: int, noise: Noise) -> Coordinates:
    """Sum the scales of the coarse displacement noise, shape (3, S, S, S), voxels."""
    total = np.zeros((3, side, side, side))
    for scale in foreground["displacement"]:
        n = int(np.ceil(side / scale["spacing"]))
        grid = noise(int(scale["key"], 16), 3 * n**3).reshape(3, n, n, n)
        total += scale["std"] * upsample(grid, scale["spacing"], (side, side, side))
    return total


def ball_volume(foreground: dict[str, Any], side: int) -> Mask:
    centre = np.array(foreground["centre"]).reshape(3, 1, 1, 1)
    return ((np.indices((side, side, side)) - centre) ** 2).sum(axis=0) <= foreground["radius"] ** 2


def foreground_coordinates(foreground: dict[str, Any], side: int, noise: Noise) -> Coordinates:
    return np.indices((side, side, side)) + displacement(foreground, side, noise)


def foreground_mask(foreground: dict[str, Any], side: int, noise: Noise) -> Mask:
    """Return the warped ball: nearest sampling, reflecting borders (edge voxel repeated), then the median."""
    source = foreground_coordinates(foreground, side, noise)
    # rounding before reflecting: half-sample reflection maps voxel centres onto voxel centres
    index = round_half_up(source) % (2 * side)
    index = np.where(index >= side, 2 * side - 1 - index, index)
    warped = ball_volume(foreground, side)[tuple(index)]
    return median_3x3x3(warped.astype(np.uint8)).astype(bool)


def envelope_shell(mask: Mask, radius: int) -> Mask:
    """Return the voxels dilated and not eroded by a ball; what lies outside the volume does neither."""
    ball = morphology.ball(radius)
    dilated = morphology.dilation(mask.astype(np.uint8), ball).astype(bool)
    eroded = morphology.erosion(mask.astype(np.uint8), ball).astype(bool)
    return dilated & ~eroded


def ensemble_reference(
    masks: Sequence[Mask], parameters: dict[str, Any], side: int, noise: Noise
) -> dict[str, NDArray[Any]]:
    """Make one ensemble from its drawn parameters and return every stage.

    Parameters
    ----------
    masks : sequence of bool arrays
        The cropped templates, by template index.
    parameters : dict
        ``templates`` and ``foreground``, as in the record of a sample.
    side : int
        Side S of the volume, voxels.
    noise : callable
        Standard normal field of a key.

    Returns
    -------
    dict of (S, S, S) arrays
        ``composed``, ``median``, ``mask`` and ``envelope`` (where drawn), ``labels``.
    """
    return finish(compose(masks, parameters, side), parameters, noise)


def finish(composed: Labels, parameters: dict[str, Any], noise: Noise) -> dict[str, NDArray[Any]]:
    """Filter composed templates and apply the foreground; return every stage."""
    stages: dict[str, NDArray[Any]] = {"composed": composed}
    stages["median"] = labels = median_3x3x3(composed)
    foreground = parameters["foreground"]
    if foreground is not None:
        mask = stages["mask"] = foreground_mask(foreground, composed.shape[0], noise)
        labels = np.where(mask, labels + 1, 0).astype(np.uint8)
        if foreground["envelope"] is not None:
            shell = stages["envelope"] = envelope_shell(mask, foreground["envelope"])
            labels = np.where(shell, labels.max() + 1, labels).astype(np.uint8)
    stages["labels"] = labels
    return stages
