"""A binary shape as a lit surface, seen along one axis: first hit, shaded by the slope of the blurred shape."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import InputError
from voxmint.inspect.canvas import RGB, Colour

_LIGHT = np.array((-0.45, -0.55, 0.70))
"""Direction towards the light as (right, down, towards the viewer), length 1: above and left of the camera."""
_AMBIENT, _DIFFUSE, _SHINE, _FOG = 0.22, 0.80, 0.25, 0.45
"""Shares of the brightness: everywhere, by Lambert's cosine, by the highlight; and what the farthest point loses."""
_PAD = 3
"""Empty voxels around the shape, so that the blur sees its outside."""


def relief(mask: NDArray[Any], size: int, colour: Colour, background: Colour) -> RGB:
    """Render a binary volume, fitted into a square.

    Parameters
    ----------
    mask : ndarray of bool, shape (i, j, k)
        The shape. It is seen along j from its far end, i to the right and k upwards: from the front, for volumes whose
        axes point right, to the front and up.
    size : int
        Side of the picture, pixels.
    colour, background : three ints
        Of the surface in full light, and around it.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
        The picture.

    Raises
    ------
    InputError
        Nothing is set in the mask.
    """
    from PIL import Image

    mask = np.asarray(mask) != 0
    if not mask.any():
        raise InputError("cannot draw an empty template", expected="at least one voxel set", got="none")
    # rows: k downwards; columns: i to the right; depth: j from its far end. A coarser volume drawn larger is as sharp
    # to the eye, and several times faster.
    coarse = max(8, size * 3 // 4)
    volume = _fit(mask.transpose(2, 0, 1)[::-1, :, ::-1], coarse - 2 * _PAD)
    zoom = volume.shape[0] / mask.shape[2]
    shade, hit = _shade(volume, passes=int(np.clip(round(zoom), 1, 6)))
    lit = np.minimum(shade[..., None] * np.asarray(colour) + np.maximum(shade - 1, 0)[..., None] * 255, 255)
    square = np.full((coarse, coarse, 3), background, np.uint8)
    top, left = ((coarse - length) // 2 for length in hit.shape)
    square[top : top + hit.shape[0], left : left + hit.shape[1]][hit] = np.rint(lit[hit])
    return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.BICUBIC))


def _fit(mask: NDArray[np.bool_], size: int) -> NDArray[np.float32]:
    """Scale a volume so that its longest visible side is ``size``, interpolated where it grows, and pad it with 0."""
    zoom = size / max(mask.shape[:2])
    volume = mask.astype(np.float32)
    for axis, old in enumerate(mask.shape):
        # depth beyond twice the picture's side would cost time and show little
        new = max(1, min(round(old * zoom), 2 * size))
        if new < old:  # any voxel of a block counts, so that thin walls stay
            volume = np.maximum.reduceat(volume, np.arange(new) * old // new, axis=axis)
        elif new > old:
            volume = _interpolate(volume, new, axis)
    padded: NDArray[np.float32] = np.pad(volume, _PAD)
    return padded


def _interpolate(volume: NDArray[np.float32], new: int, axis: int) -> NDArray[np.float32]:
    """Enlarge one axis linearly between voxel centres, the edge values repeated."""
    old = volume.shape[axis]
    position = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    lower = position.astype(int)
    weight = (position - lower).astype(np.float32).reshape([-1 if other == axis else 1 for other in range(3)])
    first, second = np.take(volume, lower, axis=axis), np.take(volume, np.minimum(lower + 1, old - 1), axis=axis)
    mixed: NDArray[np.float32] = first + weight * (second - first)
    return mixed


def _shade(volume: NDArray[np.float32], passes: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the brightness of the first hit in each pixel (above 1: highlight), and which pixels hit anything.

    The more the shape was enlarged, the more ``passes`` of blur hide the steps of its voxels.
    """
    # half of the peak: a lone voxel that was enlarged may nowhere reach 0.5
    solid = volume >= min(0.5, float(volume.max()) / 2)
    hit: NDArray[np.bool_] = np.logical_or.reduce(solid, axis=2)
    first = solid.argmax(axis=2)
    rows, columns = np.nonzero(hit)
    here = np.stack((rows, columns, first[hit]))
    soft = volume
    for _ in range(passes):
        soft = _blur(soft)
    # outwards is where the blurred shape falls; nearer to the viewer is smaller depth
    down, right, away = (_fall(soft, here, axis) for axis in range(3))
    normal = np.stack((right, down, -away), axis=1)
    normal[:, 2] += 1e-6  # where the blur sees no slope, the surface faces the viewer
    normal /= np.sqrt(np.square(normal).sum(axis=1, keepdims=True))
    halfway = _LIGHT + np.array((0, 0, 1))
    highlight = np.maximum(normal @ (halfway / np.sqrt(np.square(halfway).sum())), 0) ** 20
    depth = here[2] - here[2].min()
    fog = 1 - _FOG * depth / max(int(depth.max()), max(hit.shape) // 2)
    shade: NDArray[np.float64] = np.zeros(hit.shape)
    shade[hit] = fog * (_AMBIENT + _DIFFUSE * np.maximum(normal @ _LIGHT, 0) + _SHINE * highlight)
    return shade, hit


def _fall(soft: NDArray[np.float32], here: NDArray[np.intp], axis: int) -> NDArray[np.float64]:
    """Return by how much the volume falls along an axis at each of the points (3, n), none of them at the border."""
    step = np.zeros((3, 1), int)
    step[axis] = 1
    before, after = soft[tuple(here - step)], soft[tuple(here + step)]
    fall: NDArray[np.float64] = np.subtract(before, after, dtype=np.float64)
    return fall


def _blur(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smooth with weights 1 4 6 4 1 along every axis; 2 voxels at each border keep their values."""
    for axis in range(3):
        a = np.moveaxis(volume, axis, 0)
        smooth = a.copy()
        smooth[2:-2] = (a[:-4] + a[4:] + np.float32(4) * (a[1:-3] + a[3:-1]) + np.float32(6) * a[2:-2]) / np.float32(16)
        volume = np.moveaxis(smooth, 0, axis)
    return volume
