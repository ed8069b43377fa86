"""Nerve tissue made of nothing: neurites that fill a block without gaps, and what an electron microscope shows of them.

Neurites are chains of capsules; each voxel belongs to the one whose surface is nearest, so the borders are smooth and
curved, and membranes lie where two distances are equal. Space is warped first, as no membrane is a quadric.

All arrays are (z, y, x), lengths nm, float32. Only elementwise ``+ - * /``, ``sqrt`` and comparisons decide values, so
that the same seed gives the same bytes on any machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.randomness import Stream
from voxmint.splitmix import mix

Floats = NDArray[np.float32]
Point = tuple[float, float, float]

BLOCK = 4
"""Voxels along y and x that share the three neurites looked at."""
_NEAR = 3
_STEP_NM, _SPACING_NM, _MARGIN_NM = 300.0, 350.0, 350.0
_REACH_NM = 620.0
_FAR = np.float32(1e6)
_WARPS = ((480.0, 75.0), (130.0, 16.0))
"""Lattice spacing and amplitude of the two octaves of the warp."""


@dataclass(frozen=True)
class Slice:
    """One slice through the tissue.

    Attributes
    ----------
    neuron, other : int32 (y, x)
        Neurite that a voxel belongs to, and the next nearest one.
    gap : float32 (y, x)
        About the distance to the border between them.
    axis, along, length, radius : float32 (y, x)
        Distance to the neurite's axis, position along its capsule, length and radius of that.
    capsule : int32 (y, x)
        Number of the capsule.
    clear : float32 (y, x)
        How much further away the third neurite is than the first.
    """

    neuron: NDArray[np.int32]
    other: NDArray[np.int32]
    gap: Floats
    axis: Floats
    along: Floats
    length: Floats
    radius: Floats
    capsule: NDArray[np.int32]
    clear: Floats


class Tissue:
    """Neurites in a block.

    Parameters
    ----------
    shape : three int
        Voxels (z, y, x); y and x multiples of `BLOCK`.
    voxel_nm : three float
        Voxel size (z, y, x).
    seed : int
        Everything is drawn from it.
    """

    def __init__(self, shape: tuple[int, int, int], voxel_nm: Point, seed: int) -> None:
        self.shape, self.voxel_nm, self.seed = shape, voxel_nm, seed
        self.start, self.step, self.radius, self.neuron = _grow(shape, voxel_nm, seed)
        squared = self.step[:, 0] * self.step[:, 0] + self.step[:, 1] * self.step[:, 1]
        squared = squared + self.step[:, 2] * self.step[:, 2]
        self.length = np.sqrt(squared)
        self._inverse = np.float32(1) / squared
        self._near = self._nearest_capsules()

    def centres(self, axis: int, every: int = 1) -> Floats:
        """Return the centres of the voxels along an axis, or of the blocks of ``every`` voxels."""
        count = np.arange(0, self.shape[axis], every, dtype=np.float32) + np.float32(every / 2)
        return count * np.float32(self.voxel_nm[axis])

    def plane(self, z: int) -> Slice:
        """Return what there is in slice ``z``."""
        rows, columns = self.shape[1] // BLOCK, self.shape[2] // BLOCK
        warped = self._warped(self.centres(0)[z : z + 1], self.centres(1), self.centres(2))
        points = [values[0].reshape(rows, BLOCK, columns, BLOCK) for values in warped]
        found = []
        for near in self._near[:, z]:
            capsule = near[:, None, :, None]
            axis, along = self._distance(points, capsule)
            parts = (axis - self.radius[capsule], self.neuron[capsule], axis, along, capsule)
            found.append([np.broadcast_to(part, axis.shape).reshape(self.shape[1:]) for part in parts])
        first, second, third = found
        first, second = _ordered(first, second)
        second, third = _ordered(second, third)
        first, second = _ordered(first, second)
        gap = (second[0] - first[0]) * np.float32(0.5)
        length, radius = self.length[first[4]], self.radius[first[4]]
        clear = third[0] - first[0]
        return Slice(first[1], second[1], gap, first[2], first[3], length, radius, first[4], clear)

    def _distance(self, point: list[Floats], capsule: NDArray[np.integer]) -> tuple[Floats, Floats]:
        """Return the distance of points to the axes of capsules, and the position along them."""
        away = [point[axis] - self.start[capsule, axis] for axis in range(3)]
        step = [self.step[capsule, axis] for axis in range(3)]
        share = (away[0] * step[0] + away[1] * step[1] + away[2] * step[2]) * self._inverse[capsule]
        share = np.minimum(np.maximum(share, np.float32(0)), np.float32(1))
        away = [a - share * s for a, s in zip(away, step, strict=True)]
        return np.sqrt(away[0] * away[0] + away[1] * away[1] + away[2] * away[2]), share * self.length[capsule]

    def _warped(self, z: Floats, y: Floats, x: Floats) -> list[Floats]:
        grid = [z[:, None, None], y[None, :, None], x[None, None, :]]
        for axis in range(3):
            for spacing, amplitude in _WARPS:
                field = smooth_field(self.seed, f"warp {axis} {spacing}", spacing, (z, y, x))
                grid[axis] = grid[axis] + field * np.float32(amplitude)
        return grid

    def _nearest_capsules(self) -> NDArray[np.int32]:
        """Return for each block the capsules of the three nearest neurites, int32 (3, z, y, x)."""
        axes = (self.centres(0), self.centres(1, BLOCK), self.centres(2, BLOCK))
        points = self._warped(*axes)
        shape = tuple(len(axis) for axis in axes)
        near = np.zeros((_NEAR, *shape), np.int32)
        distance = np.full((_NEAR, *shape), _FAR, np.float32)
        for neuron in range(int(self.neuron.max()) + 1):
            capsules = np.flatnonzero(self.neuron == neuron)
            boxes = {int(c): self._box(int(c), axes) for c in capsules}
            boxes = {c: box for c, box in boxes.items() if all(part.stop > part.start for part in box)}
            if not boxes:
                continue
            whole = tuple(
                slice(min(b[a].start for b in boxes.values()), max(b[a].stop for b in boxes.values())) for a in range(3)
            )
            size = tuple(part.stop - part.start for part in whole)
            best, which = np.full(size, _FAR, np.float32), np.zeros(size, np.int32)
            for capsule, box in boxes.items():
                local = tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(box, whole, strict=True))
                found = self._distance([p[box] for p in points], np.array(capsule))[0] - self.radius[capsule]
                closer = found < best[local]
                best[local] = np.where(closer, found, best[local])
                which[local] = np.where(closer, np.int32(capsule), which[local])
            _insert(distance[(slice(None), *whole)], near[(slice(None), *whole)], best, which)
        return near

    def _box(self, capsule: int, axes: tuple[Floats, Floats, Floats]) -> tuple[slice, ...]:
        """Return the blocks that a capsule could be among the nearest of."""
        reach = np.float32(_REACH_NM) + self.radius[capsule]
        ends = np.stack([self.start[capsule], self.start[capsule] + self.step[capsule]])
        low, high = ends.min(axis=0) - reach, ends.max(axis=0) + reach
        return tuple(
            slice(int(np.searchsorted(axis, low[n])), int(np.searchsorted(axis, high[n])))
            for n, axis in enumerate(axes)
        )


def random_words(stream: Stream, count: int) -> NDArray[np.uint64]:
    """Return uniform 64-bit words of a stream of their own, keyed by one draw."""
    philox = np.random.Philox(key=stream.word())
    words: NDArray[np.uint64] = philox.random_raw(count)
    return words


def smooth_field(seed: int, label: str, spacing: float, axes: tuple[Floats, Floats, Floats]) -> Floats:
    """Return a smooth random field in [-1, 1) on the grid of three axes: values on a lattice, blended in between.

    The axes hold lengths from 0 up.
    """
    cells, blends, ranges = [], [], []
    for axis in axes:
        place = axis / np.float32(spacing)
        cell = np.floor(place)
        part = place - cell
        first = int(cell.min())
        cells.append(cell.astype(np.int64) - first)
        blends.append(part * part * (np.float32(3) - np.float32(2) * part))
        ranges.append(np.arange(first, first + int(cells[-1].max()) + 2, dtype=np.uint64))
    field: Floats = _lattice(Stream(seed, label).word(), *ranges)
    for number in range(3):
        blend = blends[number].reshape([-1 if other == number else 1 for other in range(3)])
        low, high = field.take(cells[number], axis=number), field.take(cells[number] + 1, axis=number)
        field = low + (high - low) * blend
    return field


def _lattice(key: int, z: NDArray[np.uint64], y: NDArray[np.uint64], x: NDArray[np.uint64]) -> Floats:
    """Return values in [-1, 1) at places of an endless lattice."""
    word = z[:, None, None] * np.uint64(1 << 42) + y[:, None] * np.uint64(1 << 21) + x + np.uint64(key)
    return (mix(word) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)


def _grow(shape: tuple[int, int, int], voxel_nm: Point, seed: int) -> tuple[Floats, Floats, Floats, NDArray[np.int32]]:
    """Let neurites wander through the block and beyond; return start, step, radius and neurite of each capsule."""
    size = [n * s for n, s in zip(shape, voxel_nm, strict=True)]
    counts = [max(1, round((n + 2 * _MARGIN_NM) / (2.1 * _SPACING_NM))) for n in size]
    capsules: list[tuple[Point, Point, float, int]] = []
    for neuron in range(counts[0] * counts[1] * counts[2]):
        stream = Stream(seed, "neurite", neuron)
        cell = (neuron // (counts[1] * counts[2]), neuron // counts[2] % counts[1], neuron % counts[2])
        at = [
            (c + stream.unit()) / n * (s + 2 * _MARGIN_NM) - _MARGIN_NM
            for c, n, s in zip(cell, counts, size, strict=True)
        ]
        thick = stream.uniform(200, 380) if stream.chance(0.12) else stream.uniform(25, 150)
        heading = _unit([stream.uniform(-1, 1) for _ in range(3)])
        for sign in (1.0, -1.0):
            place, course = list(at), [sign * h for h in heading]
            for _ in range(stream.integer(2, 9)):
                course = _unit([c + 0.45 * stream.uniform(-1, 1) for c in course])
                step = (course[0] * _STEP_NM, course[1] * _STEP_NM, course[2] * _STEP_NM)
                radius = thick * stream.uniform(0.7, 1.3)
                capsules.append(((place[0], place[1], place[2]), step, radius, neuron))
                place = [p + s for p, s in zip(place, step, strict=True)]
                if any(not -_MARGIN_NM <= p <= s + _MARGIN_NM for p, s in zip(place, size, strict=True)):
                    break
    return (
        np.array([c[0] for c in capsules], np.float32),
        np.array([c[1] for c in capsules], np.float32),
        np.array([c[2] for c in capsules], np.float32),
        np.array([c[3] for c in capsules], np.int32),
    )


def _unit(vector: list[float]) -> list[float]:
    length = sqrt(sum(v * v for v in vector)) or 1.0
    return [v / length for v in vector]


def _insert(distance: Floats, near: NDArray[np.int32], new: Floats, which: NDArray[np.int32]) -> None:
    """Put a neurite in its place among the three nearest, in place; all (.., z, y, x)."""
    for rank in range(_NEAR):
        closer = new < distance[rank]
        distance[rank], new = np.where(closer, new, distance[rank]), np.where(closer, distance[rank], new)
        near[rank], which = np.where(closer, which, near[rank]), np.where(closer, near[rank], which)


def _ordered(one: list[Any], two: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return two neurites, the nearer one first, voxel by voxel."""
    swap = two[0] < one[0]
    pairs = zip(one, two, strict=True)
    nearer, further = zip(*((np.where(swap, b, a), np.where(swap, a, b)) for a, b in pairs), strict=True)
    return list(nearer), list(further)
