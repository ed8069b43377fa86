"""Between the voxels of a layer and those of a sample: masks without mixing labels, images linearly or by area.

Voxel ``w`` of a sample covers ``[w * s, (w + 1) * s)`` nm along an axis, as a layer's voxels do; so two grids are
related by the ratio of their voxel sizes alone, an exact fraction. Arrays are (z, y, x), boxes and ratios (x, y, z).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.volumes.box import Box, Lengths, Voxels, exact

Mask = NDArray[np.bool_]
_HALF = Fraction(1, 2)


class Grids:
    """A layer's voxels beside those of a sample.

    Parameters
    ----------
    voxel_size_nm : lengths (x, y, z)
        Voxel size of the sample.
    layer_voxel_size_nm : lengths (x, y, z)
        Voxel size of the layer.
    bounds : Box
        The layer's voxels.

    Attributes
    ----------
    ratio : three Fraction
        Layer voxels per voxel of the sample and axis: 1/2 where the sample is twice as fine.
    same : bool
        Whether both grids are one.
    visible : Box
        Voxels of the sample's grid whose centres lie within the layer's bounds: those that are real.
    """

    def __init__(self, voxel_size_nm: Lengths, layer_voxel_size_nm: Lengths, bounds: Box) -> None:
        self.bounds = bounds
        self.ratio = tuple(exact(s) / exact(n) for s, n in zip(voxel_size_nm, layer_voxel_size_nm, strict=True))
        start = [first_with_centre(n, r) for n, r in zip(bounds.start, self.ratio, strict=True)]
        stop = [first_with_centre(n, r) for n, r in zip(bounds.stop, self.ratio, strict=True)]
        self.same = all(ratio == 1 for ratio in self.ratio)
        self.visible = Box(_triple(start), _triple(stop))

    def layer_box(self, box: Box) -> Box:
        """Return the layer's voxels that decide the mask in ``box`` of the sample, bounds not regarded.

        Where the layer is coarser, those that hold the centre of a voxel of the box; where it is finer, those whose
        centre lies in the box.
        """
        start, stop = [], []
        for first, end, ratio in zip(box.start, box.stop, self.ratio, strict=True):
            if ratio.numerator <= ratio.denominator:
                start.append(voxel_of_centre(first, ratio))
                stop.append(voxel_of_centre(end - 1, ratio) + 1)
            else:
                start.append(first_with_centre(first, inverse := 1 / ratio))
                stop.append(first_with_centre(end, inverse))
        return Box(_triple(start), _triple(stop))

    def resample_mask(self, mask: Mask, mask_box: Box, box: Box) -> tuple[Mask, Box]:
        """Return a mask given on the layer's grid on the sample's: the part of ``box`` that it reaches.

        Nothing thin is lost and nothing invented: where the layer is coarser, a voxel of the sample takes the layer's
        voxel that holds its centre (exact repetition for whole ratios); where it is finer, each voxel of the layer
        belongs to the one voxel of the sample that holds its centre, which is set if any of them is.

        Parameters
        ----------
        mask : bool (z, y, x)
            On the voxels of ``mask_box``; background elsewhere.
        mask_box : Box
            In voxels of the layer.
        box : Box
            In voxels of the sample.

        Returns
        -------
        bool (z, y, x)
            On the voxels of the part; not set where no voxel is visible.
        Box
            The part of ``box`` outside of which nothing is set, in voxels of the sample.
        """
        start, stop = [], []
        for axis in range(3):
            mask, first = _resample_axis(mask, 2 - axis, mask_box.start[axis], self.ratio[axis])
            start.append(first)
            stop.append(first + mask.shape[2 - axis])
        found = Box(_triple(start), _triple(stop))
        common = found.intersect(box).intersect(self.visible)
        if common.empty:
            return np.zeros((0, 0, 0), np.bool_), Box.at(box.start, (0, 0, 0))
        return mask[common.slices(found)[::-1]], common

    def image_box(self, box: Box) -> Box:
        """Return the layer's voxels, within its bounds, that `resample_image` reads for ``box``."""
        if self.same:
            return box.intersect(self.bounds)
        taps = [_taps(a, b, ratio)[0] for a, b, ratio in zip(box.start, box.stop, self.ratio, strict=True)]
        wanted = Box(_triple([t.min() for t in taps]), _triple([t.max() + 1 for t in taps]))
        return wanted.intersect(self.bounds)

    def resample_image(self, image: NDArray[Any], image_box: Box, box: Box) -> NDArray[Any]:
        """Return an image given on the layer's grid on the sample's: linear where finer, mean by area where coarser.

        Parameters
        ----------
        image : (z, y, x)
            On the voxels of ``image_box``, whose outermost values go on beyond it.
        image_box : Box
            In voxels of the layer.
        box : Box
            In voxels of the sample.

        Returns
        -------
        (z, y, x) ndarray
            ``image`` itself where both grids are one, else float64.
        """
        if self.same:
            return image
        values: NDArray[Any] = image.astype(np.float64)
        for axis, ratio in sorted(enumerate(self.ratio), key=lambda item: -item[1]):  # what shrinks, first
            if ratio == 1:
                continue
            taps, weights = _taps(box.start[axis], box.stop[axis], ratio)
            taps = np.clip(taps - image_box.start[axis], 0, image_box.shape[axis] - 1)
            shape = [1, 1, 1]
            shape[2 - axis] = -1
            # tap by tap, in a fixed order, with single operations: the same bits on every machine
            terms = (np.take(values, t, 2 - axis) * w.reshape(shape) for t, w in zip(taps, weights, strict=True))
            total = next(terms)
            for term in terms:
                total += term
            values = total
        return values


def voxel_of_centre(voxel: int, ratio: Fraction) -> int:
    """Return the voxel, of a grid with ``ratio`` voxels for one here, that holds the centre of ``voxel``."""
    n, d = ratio.numerator, ratio.denominator
    return (2 * voxel + 1) * n // (2 * d)


def first_with_centre(edge: int, ratio: Fraction) -> int:
    """Return the first voxel whose centre is not below the lower edge of voxel ``edge`` of the other grid."""
    n, d = ratio.numerator, ratio.denominator
    return -((n - 2 * edge * d) // (2 * n))  # the ceiling of edge / ratio - 1/2, in whole numbers: thrice as fast


def nearest_edge(edge: int, ratio: Fraction) -> int:
    """Return the voxel whose lower edge is nearest to that of voxel ``edge`` of the other grid, halves up."""
    n, d = ratio.numerator, ratio.denominator
    return (2 * edge * d + n) // (2 * n)


def _resample_axis(mask: Mask, axis: int, start: int, ratio: Fraction) -> tuple[Mask, int]:
    """Resample along one axis of the array; return the result and the index of its first voxel."""
    stop = start + mask.shape[axis]
    if ratio == 1:
        return mask, start
    n, d = ratio.numerator, ratio.denominator
    if ratio < 1:
        first, end = first_with_centre(start, ratio), first_with_centre(stop, ratio)
        picks = [(2 * w + 1) * n // (2 * d) - start for w in range(first, end)]
        return mask.take(picks, axis), first
    cells = [(2 * v + 1) * d // (2 * n) for v in range(start, stop)]
    # no cell in between is empty, since a sample's voxel is longer than the distance of the centres
    starts = [i for i, cell in enumerate(cells) if i == 0 or cell != cells[i - 1]]
    return np.logical_or.reduceat(mask, starts, axis), cells[0]


def _taps(start: int, stop: int, ratio: Fraction) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return for voxels ``start`` to ``stop`` of the sample their layer voxels and weights, each (taps, voxels)."""
    rows = [_linear(w, ratio) if ratio < 1 else _area(w, ratio) for w in range(start, stop)]
    longest = max(len(weights) for _, weights in rows)
    taps = np.empty((longest, stop - start), np.int64)
    weights = np.zeros((longest, stop - start))
    for column, (first, shares) in enumerate(rows):
        # unused taps repeat the last one with weight 0, so that nothing is read for them
        taps[:, column] = np.minimum(first + np.arange(longest), first + len(shares) - 1)
        weights[: len(shares), column] = [float(share) for share in shares]
    return taps, weights


def _linear(voxel: int, ratio: Fraction) -> tuple[int, list[Fraction]]:
    place = (voxel + _HALF) * ratio - _HALF
    first = floor(place)
    return first, [1 - (place - first), place - first] if place != first else [Fraction(1)]


def _area(voxel: int, ratio: Fraction) -> tuple[int, list[Fraction]]:
    low, high = voxel * ratio, (voxel + 1) * ratio
    voxels = range(floor(low), ceil(high))
    return floor(low), [(min(high, Fraction(v + 1)) - max(low, Fraction(v))) / ratio for v in voxels]


def _triple(values: Sequence[Any]) -> Voxels:
    x, y, z = (int(value) for value in values)
    return (x, y, z)
