"""The grid of a layer, and settling what a user says of it against what the layer carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import isfinite
from typing import Any

import numpy as np

from voxmint.errors import LayerError
from voxmint.volumes.box import Box, Lengths, Voxels, exact
from voxmint.volumes.layer import Opening

_NM = {"nm": 1.0, "nanometer": 1.0, "um": 1e3, "\u00b5m": 1e3, "\u03bcm": 1e3, "micrometer": 1e3, "mm": 1e6, "m": 1e9,
       "angstrom": 0.1, "picometer": 1e-3, "millimeter": 1e6, "centimeter": 1e7, "meter": 1e9}  # fmt: skip


class GivenPlaceError(LayerError):
    """What a user says of a layer is not what the layer carries."""


@dataclass(frozen=True)
class Geometry:
    """A layer's grid, axes (x, y, z).

    Attributes
    ----------
    voxel_size_nm : tuple of float
        Size of a voxel.
    bounds : Box
        All voxels, absolute.
    chunk_shape : tuple of int
        Voxels fetched together.
    origin : tuple of int
        Absolute voxel at which a chunk starts; usually ``bounds.start``.
    dtype : dtype
        Native byte order.
    """

    voxel_size_nm: tuple[float, float, float]
    bounds: Box
    chunk_shape: Voxels
    origin: Voxels
    dtype: np.dtype[Any]

    def chunks_of(self, box: Box) -> list[Box]:
        """Return the chunks that hold voxels of ``box``, clipped to the bounds, x fastest."""
        inside = box.intersect(self.bounds)
        if inside.empty:
            return []
        # clipped axis by axis and kept, since boxes are dear to make and a crop may touch many
        sides = zip(self.bounds.start, self.bounds.stop, self.origin, self.chunk_shape, strict=True)
        xs, ys, zs = (
            [(max(low, at), min(high, at + n)) for at in range(o + (a - o) // n * n, b, n)]
            for a, b, (low, high, o, n) in zip(inside.start, inside.stop, sides, strict=True)
        )
        return [_box_of(x, y, z) for z, y, x in product(zs, ys, xs)]


@lru_cache(maxsize=1 << 14)
def _box_of(x: tuple[int, int], y: tuple[int, int], z: tuple[int, int]) -> Box:
    return Box((x[0], y[0], z[0]), (x[1], y[1], z[1]))


def voxel_size_of(opening: Opening, carried: Lengths | None, url: str) -> tuple[float, float, float]:
    """Return the voxel size in nm that the layer carries, or that the user gives for one that carries none.

    Raises
    ------
    LayerError
        There is neither; they differ; or a size is not a positive, finite length.
    """
    given = opening.voxel_size_nm
    if given is None and carried is None:
        raise LayerError("the layer carries no voxel size", where=url, expected="voxel size x, y, z in nm",
                         remedy="give its voxel size in nm; there is no default").about("voxel_size_nm")  # fmt: skip
    if given is not None and carried is not None and any(
        abs(float(a) - float(b)) > 1e-6 * float(b) for a, b in zip(given, carried, strict=True)
    ):  # fmt: skip
        raise _given("voxel_size_nm", "voxel size", url, expected=_shown(carried), got=_shown(given))
    size = carried if carried is not None else given
    values = tuple(float(n) for n in size or ())
    if len(values) != 3 or not all(isfinite(n) and n > 0 for n in values):
        raise LayerError("a voxel size must be three positive lengths", where=url, got=_shown(values),
                         remedy="give x, y, z in nm").about("voxel_size_nm")  # fmt: skip
    return (values[0], values[1], values[2])


def offset_of(opening: Opening, carried: Voxels | None, url: str) -> Voxels:
    """Return the absolute index of the first voxel: the layer's own, else the user's, else 0.

    Raises
    ------
    LayerError
        The layer carries another than the user gives.
    """
    if carried is None:
        return opening.offset or (0, 0, 0)
    if opening.offset is not None and opening.offset != carried:
        raise _given("offset", "offset", url, expected=carried, got=opening.offset)
    return carried


def carried_by(attributes: Mapping[str, Any], order: Sequence[int]) -> tuple[Lengths | None, Voxels | None]:
    """Return voxel size (nm) and offset (voxels), axes (x, y, z), that the attributes of an array carry.

    Known are ``resolution`` and ``offset`` in nm, axes as stored (the convention of CREMI's files), and N5's
    ``pixelResolution`` with its unit, axes (x, y, z).

    Parameters
    ----------
    attributes : mapping
        Of the array.
    order : sequence of int
        Which stored axis is x, y and z.
    """
    pixels = attributes.get("pixelResolution")
    if isinstance(pixels, Mapping) and pixels.get("unit") in _NM and len(pixels.get("dimensions", ())) == 3:
        return [exact(float(n)) * exact(_NM[pixels["unit"]]) for n in pixels["dimensions"]], None
    resolution = _triple(attributes.get("resolution"), order)
    if resolution is None or not all(isfinite(n) and n > 0 for n in resolution):
        return None, None
    offset = _triple(attributes.get("offset"), order)
    if offset is None:
        return resolution, None
    steps = [exact(o) / exact(n) for o, n in zip(offset, resolution, strict=True)]
    if any(step.denominator != 1 for step in steps):
        return resolution, None  # between voxels: cannot be an offset of this grid, so the user must say
    return resolution, (int(steps[0]), int(steps[1]), int(steps[2]))


def unit_in_nm(unit: str) -> float | None:
    """Return how many nm a unit of length is, None for an unknown one."""
    return _NM.get(unit)


def axes_order(axes: str, shape: Sequence[int], url: str) -> tuple[int, int, int]:
    """Return which stored axis is x, y and z; all others must have length 1.

    Raises
    ------
    LayerError
        The axes do not fit the shape, or name none or two of x, y, z.
    """
    axes = axes.lower()
    fits = len(axes) == len(shape) and all(axes.count(name) == 1 for name in "xyz")
    if not fits or any(n != 1 for name, n in zip(axes, shape, strict=False) if name not in "xyz"):
        raise LayerError("the axes are not those of one 3D volume", where=url, expected="x, y, z, others of length 1",
                         got=f"axes {axes!r} for shape {tuple(shape)}",
                         remedy="name the stored axes in their order, such as zyx or czyx").about("axes")  # fmt: skip
    return (axes.index("x"), axes.index("y"), axes.index("z"))


def _given(argument: str, words: str, url: str, **values: Any) -> GivenPlaceError:
    what, remedy = f"the {words} given is not the layer's own", "leave it out, or correct it"
    return GivenPlaceError(what, where=url, remedy=remedy, **values).about(argument)


def _triple(values: Any, order: Sequence[int]) -> Lengths | None:
    try:
        listed = [float(n) for n in values]
        return [listed[axis] for axis in order]
    except (TypeError, ValueError, IndexError):
        return None


def _shown(lengths: Lengths) -> str:
    return " x ".join(f"{float(n):g}" for n in lengths) + " nm"
