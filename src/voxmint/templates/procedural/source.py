"""Templates that need no data set: bodies drawn by `anatomy`, turned into voxels by distance fields and noise."""

from __future__ import annotations

import math
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import InputError, RecipeError
from voxmint.randomness import Stream
from voxmint.sample import JSON
from voxmint.splitmix import GOLDEN, mix
from voxmint.templates.packing import Template, bounding_box, pack
from voxmint.templates.procedural.anatomy import KINDS, ROUND
from voxmint.templates.procedural.bodies import Body
from voxmint.templates.source import TemplateSource

_ATTEMPTS, _LONGEST = 16, 256
_LEAST_PART = 30
"""Voxels of the smallest part that a body of many parts has."""
SHAPES = 2
"""Version of the shapes, which is recorded: raised when the same (count, seed) comes to grow other ones."""
LICENCE = "made by voxmint, free of rights"
_STEPS = ((14.0, 4.0), (7.0, 3.0), (1.8, 2.0), (0.0, 1.0))
"""How far apart a field is sampled, voxels, by the least radius of the body's parts: a thick one's field is smooth."""


class ProceduralSource(TemplateSource):
    """Each item is one shape; its kind goes round a list of kinds, the rest is drawn from (seed, index).

    Parameters
    ----------
    count : int
        How many shapes.
    seed : int
        Any non-negative integer.
    """

    generator: ClassVar[str] = "templates.procedural"

    def __init__(self, count: int = 256, seed: int = 0) -> None:
        for name, value, least in (("count", count, 1), ("seed", seed, 0)):
            if value < least:
                raise RecipeError("out of range", where=name, expected=f"at least {least}", got=value)
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def kind(self, index: int) -> str:
        """Return which kind of body shape ``index`` is."""
        return ROUND[index % len(ROUND)]

    def key(self, index: int) -> str:
        """Return the shape's name."""
        return f"{self.kind(index)}_{index:04d}"

    def templates(self, index: int, reads: dict[str, str], unusable: dict[str, str]) -> list[Template]:  # noqa: ARG002
        """Make one shape."""
        kind = self.kind(index)
        # a drawn body can come out empty or larger than any organ: then the next draw is taken
        for attempt in range(_ATTEMPTS):
            stream = Stream(self.seed, index, "procedural", attempt)
            body, key = KINDS[kind](stream), stream.word()
            if attempt < _ATTEMPTS - 1 and max(b - a for a, b in zip(*_extent(body), strict=True)) > _LONGEST:
                continue
            mask = make_mask(body, key)
            if np.count_nonzero(mask) >= 64 and max(mask.shape) <= _LONGEST:
                break
        words, shape = pack(mask)
        return [Template(self.key(index), words, shape, int(np.count_nonzero(mask)), structure=kind, licence=LICENCE,
                         source=f"procedural, seed {self.seed}", voxel_size_mm=(1.5, 1.5, 1.5))]  # fmt: skip

    def definition(self) -> JSON:
        """Return kind, version of the shapes, count and seed."""
        return {
            "generator": self.generator,
            "templates": "procedural",
            "version": SHAPES,
            "count": self.count,
            "seed": self.seed,
        }

    @classmethod
    def open(cls, definition: JSON, access: JSON) -> Self:  # noqa: ARG003 - needs nothing of this machine
        """Build from a definition.

        Raises
        ------
        InputError
            Its shapes are of another version, which are grown no more.
        """
        if (there := definition.get("version", 1)) != SHAPES:
            raise InputError("procedural shapes of another version, which are grown no more",
                             expected=f"version {SHAPES}", got=f"version {there}",
                             remedy="bring back this bank from a copy of it, or make another bank")  # fmt: skip
        return cls(int(definition["count"]), int(definition["seed"]))


def make_mask(body: Body, key: int) -> NDArray[np.uint8]:
    """Turn a body into voxels.

    Parameters
    ----------
    body : Body
    key : int
        64-bit key of the noise.

    Returns
    -------
    (ni, nj, nk) uint8 array
        1 inside; cropped to the bounding box. Solid bodies have no holes, single ones no loose parts.
    """
    from voxmint.templates.procedural.compiled import ensure_compiled
    from voxmint.templates.procedural.kernels import fields, surface

    ensure_compiled()
    margin = 1.8 * body.warp + body.bump + 2
    low, high = _extent(body)
    # warping reads a field up to `margin` away from a node, so the field holds true distances as far as that
    shape = [math.ceil(b - a + 2 * margin) for a, b in zip(low, high, strict=True)]
    origin = [a - margin for a in low]
    field_of = [row[6:8] for row in body.capsules] + [row[3:6] for row in body.ellipsoids if row[15] > 0]
    thinnest = min([min(radii) for radii in field_of] + [frame[12] for frame, _, _ in body.sheets])
    step = next(step for least, step in _STEPS if thinnest >= least)
    field = np.full([int(n / step) + 3 for n in shape], 2 * margin + 4)
    if body.ellipsoids:
        rows = np.array(body.ellipsoids)
        rows[:, :3] -= origin
        fields.combine_ellipsoids(field, step, rows, body.blend, margin + body.blend)
    if body.capsules:
        rows = np.array(body.capsules)
        rows[:, :3] -= origin
        rows[:, 3:6] -= origin
        fields.unite_capsules(field, step, rows, margin)
    for frame, bend, discs in body.sheets:
        moved = np.array(frame)
        moved[:3] -= origin
        fields.unite_sheet(field, step, moved, np.array(bend), np.array(discs), body.blend, margin)
    lattices = np.stack([_lattice(key, axis, shape, body.warp_spacing) for axis in range(3)])
    field = surface.warp(field, step, lattices, body.warp_spacing, body.warp)
    mask = np.zeros(shape, np.uint8)
    nx, ny, nz, offset = body.plane
    plane = np.array([nx, ny, nz, offset - (nx * origin[0] + ny * origin[1] + nz * origin[2])])
    bumps = _lattice(key, 3, shape, body.bump_spacing)
    surface.render(field, step, mask, bumps, body.bump_spacing, body.bump, body.wall, plane)
    return _tidy(mask, body)


def _extent(body: Body) -> tuple[list[float], list[float]]:
    low, high = [math.inf] * 3, [-math.inf] * 3

    def include(point: tuple[float, ...], radius: float) -> None:
        for axis in range(3):
            low[axis] = min(low[axis], point[axis] - radius)
            high[axis] = max(high[axis], point[axis] + radius)

    for row in body.capsules:
        include(row[:3], row[6])
        include(row[3:6], row[7])
    for row in body.ellipsoids:
        if row[15] > 0:
            # half the extent of a rotated ellipsoid along each axis
            for axis in range(3):
                half = math.sqrt(sum((row[3 + n] * row[6 + 3 * n + axis]) ** 2 for n in range(3)))
                low[axis] = min(low[axis], row[axis] - half)
                high[axis] = max(high[axis], row[axis] + half)
    for frame, bend, discs in body.sheets:
        reach = max(math.sqrt(d[0] * d[0] + d[1] * d[1]) + d[2] for d in discs if d[3] > 0)
        lift = reach * reach * max(map(abs, bend[:3])) * 1.2
        u, v, w = frame[3:6], frame[6:9], frame[9:12]
        for axis in range(3):
            half = reach * math.sqrt(u[axis] * u[axis] + v[axis] * v[axis]) + lift * abs(w[axis]) + frame[12]
            low[axis], high[axis] = min(low[axis], frame[axis] - half), max(high[axis], frame[axis] + half)
    return low, high


def _lattice(key: int, channel: int, shape: list[int], spacing: float) -> NDArray[np.float64]:
    """Return values in [-1, 1) at points ``spacing`` apart over ``shape``, hashed from key, channel and position."""
    size = [int(n / spacing) + 3 for n in shape]
    count = np.arange(size[0] * size[1] * size[2], dtype=np.uint64)
    word = mix(np.uint64((key + channel * 0x632BE59BD9B4E019) % 2**64) + (count + np.uint64(1)) * GOLDEN)
    return ((word >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0).reshape(size)


def _tidy(mask: NDArray[np.uint8], body: Body) -> NDArray[np.uint8]:
    from voxmint.templates.procedural.kernels.parts import fill_holes, keep_parts

    box = bounding_box(mask)
    if box is None:
        return mask[:0]
    mask = np.ascontiguousarray(mask[box])
    # of many bodies the crumbs go, of a single one all but the largest part
    keep_parts(mask, _LEAST_PART if body.many else 0)
    if body.wall == 0 and not body.capsules and not body.sheets:  # bars and sheets enclose nothing
        fill_holes(mask)
    box = bounding_box(mask)
    return mask[:0] if box is None else np.ascontiguousarray(mask[box])
