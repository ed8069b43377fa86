"""Boxes of voxels, and where they lie in nanometres.

Axes are (x, y, z) everywhere. Voxel ``v`` of a layer covers ``[v * size, (v + 1) * size)`` nm, with ``v`` the absolute
index: a layer's offset is part of it. So one point in nm names one voxel in every layer, whatever its voxel size.

Conversions are exact: a length such as 3.6 nm counts as the decimal it is written as, not as the nearest binary float.
Floats were rejected because 0.1 * 3 > 0.3 moves a crop by a voxel once in a while.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor

Voxels = tuple[int, int, int]
"""Voxel indices or a shape, axes (x, y, z)."""
Length = int | float | Fraction
"""One length in nm."""
Lengths = Sequence[Length]
"""Lengths or a point in nm, axes (x, y, z)."""
Nanometres = tuple[Fraction, Fraction, Fraction]
"""A point in nm, axes (x, y, z), exact."""


@dataclass(frozen=True, order=True)
class Box:
    """Voxels from ``start`` up to, not including, ``stop``; axes (x, y, z). May be empty, never negative.

    Attributes
    ----------
    start, stop : tuple of int
        Absolute voxel indices; negative ones lie before the origin.
    """

    start: Voxels
    stop: Voxels

    def __post_init__(self) -> None:
        # tens are made for each sample, so this is spelt out
        a, b, c = self.start
        x, y, z = self.stop
        a, b, c, x, y, z = int(a), int(b), int(c), int(x), int(y), int(z)
        object.__setattr__(self, "start", (a, b, c))
        object.__setattr__(self, "stop", (x if x > a else a, y if y > b else b, z if z > c else c))

    @classmethod
    def at(cls, start: Sequence[int], shape: Sequence[int]) -> Box:
        """Return the box of ``shape`` voxels whose first voxel is ``start``."""
        a, b, c = start
        x, y, z = shape
        return cls((a, b, c), (a + x, b + y, c + z))

    @property
    def shape(self) -> Voxels:
        """Voxels along x, y, z."""
        return (self.stop[0] - self.start[0], self.stop[1] - self.start[1], self.stop[2] - self.start[2])

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        x, y, z = self.shape
        return x * y * z

    @property
    def name(self) -> str:
        """The box in words without spaces, as precomputed layers name their chunks: ``x0-x1_y0-y1_z0-z1``."""
        a, b, c = self.start
        x, y, z = self.stop
        return f"{a}-{x}_{b}-{y}_{c}-{z}"

    @property
    def empty(self) -> bool:
        """Whether the box holds no voxel."""
        return self.voxels == 0

    def intersect(self, other: Box) -> Box:
        """Return the voxels in both; an empty box when there are none."""
        a, b, c = map(max, self.start, other.start)
        x, y, z = map(min, self.stop, other.stop)
        return Box((a, b, c), (x, y, z))

    def shift(self, by: Sequence[int]) -> Box:
        """Return the box moved by ``by`` voxels."""
        return Box.at([a + d for a, d in zip(self.start, by, strict=True)], self.shape)

    def contains(self, other: Box | Sequence[int]) -> bool:
        """Tell whether a box (an empty one always is) or a voxel lies wholly inside."""
        if not isinstance(other, Box):
            other = Box.at(other, (1, 1, 1))
        return other.empty or self.intersect(other) == other

    def slices(self, within: Box | None = None) -> tuple[slice, slice, slice]:
        """Return the slices that pick this box out of an array (x, y, z) whose first voxel is ``within.start``.

        Without ``within`` the array begins at voxel 0.
        """
        origin = (0, 0, 0) if within is None else within.start
        a, b, c = (slice(s - o, e - o) for s, e, o in zip(self.start, self.stop, origin, strict=True))
        return (a, b, c)

    def nm(self, voxel_size_nm: Lengths) -> tuple[Nanometres, Nanometres]:
        """Return the start and the (excluded) stop in nm."""
        return nm_of(self.start, voxel_size_nm), nm_of(self.stop, voxel_size_nm)

    def __str__(self) -> str:
        return ", ".join(f"{axis} {a}:{b}" for axis, a, b in zip("xyz", self.start, self.stop, strict=True))


def exact(length: Length) -> Fraction:
    """Return a length as the decimal it is written as: 0.1 is one tenth."""
    return length if isinstance(length, Fraction) else _as_written(length)


@lru_cache(maxsize=1 << 12)
def _as_written(length: int | float) -> Fraction:
    return Fraction(str(length))


def nm_of(voxels: Lengths, voxel_size_nm: Lengths) -> Nanometres:
    """Return the nm of a point given in (possibly fractional) voxels, exact. A voxel's index is its lower corner."""
    x, y, z = (exact(v) * exact(size) for v, size in zip(voxels, voxel_size_nm, strict=True))
    return (x, y, z)


def voxel_at_nm(point_nm: Lengths, voxel_size_nm: Lengths) -> Voxels:
    """Return the voxel that holds a point."""
    pairs = ((exact(p), exact(size)) for p, size in zip(point_nm, voxel_size_nm, strict=True))
    # the floor of p / size, in whole numbers: thrice as fast
    x, y, z = ((p.numerator * n.denominator) // (p.denominator * n.numerator) for p, n in pairs)
    return (x, y, z)


def box_around_nm(centre_nm: Lengths, size_vx: Sequence[int], voxel_size_nm: Lengths) -> Box:
    """Return the box of exactly ``size_vx`` voxels around a point.

    The voxel that holds the point gets index ``size // 2`` of the box: the middle of an odd size, the first of the
    upper half of an even one.
    """
    voxel = voxel_at_nm(centre_nm, voxel_size_nm)
    return Box.at([v - int(n) // 2 for v, n in zip(voxel, size_vx, strict=True)], size_vx)


def box_covering_nm(start_nm: Lengths, stop_nm: Lengths, voxel_size_nm: Lengths) -> Box:
    """Return the smallest box whose voxels cover ``[start_nm, stop_nm)``."""
    stop = [ceil(exact(p) / exact(size)) for p, size in zip(stop_nm, voxel_size_nm, strict=True)]
    return Box(voxel_at_nm(start_nm, voxel_size_nm), _voxels(stop))


def size_in_voxels(size_nm: Lengths, voxel_size_nm: Lengths) -> Voxels:
    """Return how many voxels are nearest to a size in nm, halves rounded up, at least one an axis."""
    x, y, z = (max(1, floor(exact(n) / exact(s) + Fraction(1, 2))) for n, s in zip(size_nm, voxel_size_nm, strict=True))
    return (x, y, z)


def _voxels(values: Sequence[int]) -> Voxels:
    x, y, z = values
    return (int(x), int(y), int(z))
