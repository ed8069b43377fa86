"""Between the voxels of a layer and those of a sample: masks without mixing labels, images linearly or by area.

Masks get to a coarser grid by majority: set where any voxel of a layer is, clefts come out twice too large.

Voxel ``w`` of a sample covers ``[w * s, (w + 1) * s)`` nm along an axis, as a layer's voxels do; so two grids are
related by the ratio of their voxel sizes alone, an exact fraction. Arrays are (z, y, x), boxes and ratios (x, y, z).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor, prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxmint.volumes.box import Box, Lengths, Voxels, exact

Mask = NDArray[np.bool_]
Downsampling = Literal["majority", "any"]
Downsampled = Literal["majority", "any", "fullest"]
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

    def resample_mask(
        self, mask: Mask, mask_box: Box, box: Box, downsampling: Downsampling = "majority"
    ) -> tuple[Mask, Box, Downsampled]:
        """Return a mask given on the layer's grid on the sample's: the part of ``box`` that it reaches.

        Where the layer is coarser, a voxel of the sample takes the layer's voxel that holds its centre (exact
        repetition for whole ratios). Where it is finer, each voxel of the layer within its bounds belongs to the one
        voxel of the sample that holds its centre. By ``majority`` that is set if more than half of its voxels are; of
        just one half, if the layer's voxel in its middle is among them, so that volumes neither grow nor shrink. Where
        that leaves nothing of the mask, the ``fullest`` are set: as many as its volume takes, at least one, and all
        that are as full as the last of these. By ``any`` each is set of whose voxels any is.

        Parameters
        ----------
        mask : bool (z, y, x)
            On the voxels of ``mask_box``; background elsewhere.
        mask_box : Box
            In voxels of the layer.
        box : Box
            In voxels of the sample.
        downsampling : {"majority", "any"}
            As above.

        Returns
        -------
        bool (z, y, x)
            On the voxels of the part; not set where no voxel is visible.
        Box
            The part of ``box`` outside of which nothing is set, in voxels of the sample.
        {"majority", "any", "fullest"}
            What decided in the end.
        """
        axes = [
            _Axis(mask_box.start[axis], mask_box.stop[axis], self.ratio[axis],
                  (self.bounds.start[axis], self.bounds.stop[axis]))
            for axis in range(3)
        ]  # fmt: skip
        found = Box.at(_triple([axis.first for axis in axes]), _triple([len(axis) for axis in axes]))
        common = found.intersect(box).intersect(self.visible)
        if common.empty:
            return np.zeros((0, 0, 0), np.bool_), Box.at(box.start, (0, 0, 0)), downsampling
        counts: NDArray[Any] = mask
        for number, axis in enumerate(axes):
            counts = axis.count(counts, 2 - number)
        part = common.slices(found)[::-1]
        if counts.dtype == np.bool_:  # no axis shrinks
            return counts[part], common, downsampling
        if downsampling == "any":
            return counts[part] > 0, common, "any"
        sizes = _sizes(axes)
        most = _majority(mask, counts, sizes, axes)[part]
        if most.any():
            return most, common, "majority"
        volume = Fraction(int(counts[part].sum())) / prod(ratio for ratio in self.ratio if ratio > 1)
        return _fullest(counts[part], sizes[part], max(1, floor(volume + _HALF))), common, "fullest"

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


class _Axis:
    """The voxels of a sample that those of a layer from ``start`` to ``stop`` belong to, along one axis."""

    def __init__(self, start: int, stop: int, ratio: Fraction, bounds: tuple[int, int]) -> None:
        self.start, self.stop, self.ratio, self.bounds = start, stop, ratio, bounds
        if ratio <= 1:
            self.first, self._end = first_with_centre(start, ratio), first_with_centre(stop, ratio)
        else:
            self.first = voxel_of_centre(start, 1 / ratio)
            self._end = voxel_of_centre(stop - 1, 1 / ratio) + 1

    def __len__(self) -> int:
        return self._end - self.first

    def count(self, values: NDArray[Any], axis: int) -> NDArray[Any]:
        """Repeat values along an axis of an array, or add up those that belong to one voxel of the sample."""
        if self.ratio == 1:
            return values
        if self.ratio < 1:
            return values.take(self.middles() - self.start, axis)
        # no cell in between is empty, since a sample's voxel is longer than the distance of the centres
        starts = np.maximum(self._edges()[:-1], self.start) - self.start
        return np.add.reduceat(values.astype(np.uint32, copy=False), starts, axis)

    def sizes(self) -> NDArray[np.int64]:
        """Return how many voxels of the layer, within its bounds, belong to each; 1 where none are added up."""
        if self.ratio <= 1:
            return np.ones(len(self), np.int64)
        edges = np.clip(self._edges(), *self.bounds)
        return edges[1:] - edges[:-1]

    def middles(self) -> NDArray[np.int64]:
        """Return the layer's voxel that holds the centre of each."""
        return np.array([voxel_of_centre(w, self.ratio) for w in range(self.first, self._end)], np.int64)

    def _edges(self) -> NDArray[np.int64]:
        """Return the first voxel of the layer that belongs to each, and to the one after the last."""
        inverse = 1 / self.ratio
        return np.array([first_with_centre(w, inverse) for w in range(self.first, self._end + 1)], np.int64)


def _sizes(axes: Sequence[_Axis]) -> NDArray[np.int64]:
    """Return how many voxels of a layer belong to each voxel of a sample, (z, y, x)."""
    x, y, z = (axis.sizes() for axis in axes)
    sizes: NDArray[np.int64] = z[:, None, None] * y[:, None] * x
    return sizes


def _majority(mask: Mask, counts: NDArray[Any], sizes: NDArray[np.int64], axes: Sequence[_Axis]) -> Mask:
    """Return where more than half of a voxel's share of a layer is set, or just half and the middle of it."""
    twice = 2 * counts.astype(np.int64)
    most: Mask = twice > sizes
    ties = twice == sizes
    if ties.any():
        places = [axis.middles() - axis.start for axis in axes][::-1]
        inside = [(p >= 0) & (p < n) for p, n in zip(places, mask.shape, strict=True)]
        middle = mask[np.ix_(*(np.where(there, p, 0) for p, there in zip(places, inside, strict=True)))]
        most |= ties & middle & inside[0][:, None, None] & inside[1][:, None] & inside[2]
    return most


def _fullest(counts: NDArray[Any], sizes: NDArray[np.int64], number: int) -> Mask:
    """Return the ``number`` voxels of which the largest share is set, and those equal to the last of them."""
    shares = np.where(counts > 0, counts / np.maximum(sizes, 1), 0.0)
    last = np.sort(shares, axis=None)[-min(number, shares.size)]
    full: Mask = (shares >= last) & (shares > 0)
    return full


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
