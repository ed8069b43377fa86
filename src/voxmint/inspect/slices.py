"""Slices of volumes: where to cut, the three cuts, and outlines of masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.inspect.canvas import RGB, Colour, colour_grey, enlarge

OUTLINE: Colour = (255, 209, 71)


def cutting_point(shape: tuple[int, ...], labels: NDArray[Any] | None = None) -> tuple[int, ...]:
    """Return the voxel that the three slices go through: the middle, or the centre of mass of the non-zero labels.

    Parameters
    ----------
    shape : three ints
        Shape of the volume, voxels.
    labels : ndarray of int, shape ``shape``, optional
        Label volume. A masked ensemble lies off the middle; its centre of mass shows more of it.
    """
    if labels is None or not labels.any():
        return tuple(size // 2 for size in shape)
    counts = [np.count_nonzero(labels, axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    return tuple(int(np.average(np.arange(size), weights=count)) for size, count in zip(shape, counts, strict=True))


def orthogonal_slices(volume: NDArray[Any], point: tuple[int, ...]) -> list[NDArray[Any]]:
    """Return the slices of a volume across axes 0, 1 and 2 through ``point``; their axes keep the volume's order."""
    return [np.take(volume, point[axis], axis=axis) for axis in range(3)]


def shrink_labels(labels: NDArray[Any], factor: int) -> NDArray[Any]:
    """Keep every ``factor``-th row and column: labels are names and have no mean."""
    return labels[::factor, ::factor]


def shrink_image(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Average blocks of ``factor`` x ``factor`` pixels; the last ones may be cut by the border."""
    if factor == 1:
        return image
    total: NDArray[Any] = image.astype(np.float64)
    size = np.ones(())
    for axis, length in enumerate(image.shape):
        starts = np.arange(0, length, factor)
        total = np.add.reduceat(total, starts, axis=axis)
        size = size * np.expand_dims(np.diff(np.append(starts, length)), 1 - axis)
    return np.rint(total / size).astype(np.uint8)


def outline(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the pixels of a mask (rows, columns) that have a side neighbour outside it.

    The border of the picture is no edge: a mask cut by it stays open there. Given the labels of a slice instead, the
    pixels where a label above 0 touches another one.
    """
    padded = np.pad(np.asarray(mask), 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    differs: NDArray[np.bool_] = np.logical_or.reduce([neighbour != centre for neighbour in neighbours])
    differs &= centre != 0
    return differs


def overlay_outline(image: NDArray[np.uint8], mask: NDArray[Any], *, factor: int = 1, colour: Colour = OUTLINE) -> RGB:
    """Return a grey slice with the outline of a mask drawn over it.

    Parameters
    ----------
    image : ndarray of uint8, shape (rows, columns)
        Grey slice.
    mask : ndarray of bool or int, shape (rows, columns)
        Mask or labels, see `outline`.
    factor : int
        Enlargement; the line stays one pixel wide and inside the mask.
    colour : three ints
        Colour of the line.

    Raises
    ------
    ValueError
        The two shapes differ.
    """
    if image.shape != mask.shape:
        raise ValueError(f"image and mask must have one shape, got {image.shape} and {mask.shape}")
    picture = colour_grey(enlarge(image, factor))
    picture[outline(enlarge(np.asarray(mask), factor))] = colour
    return picture
