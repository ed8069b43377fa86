"""The parts that procedural shapes are made of, and the curves and rotations that place them.

Curves are polynomials or walks and rotations are quaternions, so that no sine is needed: its last bit differs between
maths libraries, and a template must have the same bits everywhere. For the same reason sums are written out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from voxmint.randomness import Stream

Vector = tuple[float, float, float]
Rotation = tuple[Vector, Vector, Vector]


@dataclass
class Body:
    """What a shape is made of, in voxels; see `kernels` for the rows of each list."""

    capsules: list[tuple[float, ...]] = field(default_factory=list)
    ellipsoids: list[tuple[float, ...]] = field(default_factory=list)
    sheets: list[tuple[Sequence[float], Sequence[float], Sequence[Sequence[float]]]] = field(default_factory=list)
    blend: float = 4.0
    """Over how many voxels joins are rounded off."""
    warp: float = 4.0
    """Amplitude of the low-frequency displacement."""
    warp_spacing: float = 30.0
    bump: float = 0.8
    """Amplitude of the surface's unevenness."""
    bump_spacing: float = 9.0
    wall: float = 0.0
    """Thickness of a hollow body's wall, 0 for a solid one."""
    plane: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Normal and offset of a cut, in the body's own coordinates."""
    many: bool = False
    """Whether separate parts belong to it; otherwise only the largest is kept."""

    def tube(self, points: list[Vector], radii: list[float]) -> None:
        """Add a tube along points."""
        for a, b, ra, rb in zip(points, points[1:], radii, radii[1:], strict=False):
            self.capsules.append((*a, *b, ra, rb))

    def ellipsoid(self, centre: Vector, radii: Vector, rotation: Rotation, sign: float = 1.0) -> None:
        """Add (+1) or cut out (-1) an ellipsoid."""
        self.ellipsoids.append((*centre, *radii, *rotation[0], *rotation[1], *rotation[2], sign))


IDENTITY: Rotation = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def size(stream: Stream, low: float, high: float) -> float:
    """Draw a length, small ones more often than large ones."""
    u = stream.unit()
    return low + (high - low) * u * (0.4 + 0.6 * u)


def direction(stream: Stream) -> Vector:
    """Draw a unit vector."""
    while True:
        x, y, z = (stream.uniform(-1, 1) for _ in range(3))
        if 0.01 < (n := x * x + y * y + z * z) <= 1:
            return scaled((x, y, z), 1 / math.sqrt(n))


def rotation(stream: Stream) -> Rotation:
    """Draw a rotation, uniformly (Marsaglia's quaternions)."""
    while True:
        w, x, y, z = (stream.uniform(-1, 1) for _ in range(4))
        if 0.01 < (n := w * w + x * x + y * y + z * z) <= 1:
            s = 2 / n
            return (
                (1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)),
                (s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x)),
                (s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y)),
            )


def scaled(a: Vector, factor: float) -> Vector:
    """Return ``factor * a``."""
    return a[0] * factor, a[1] * factor, a[2] * factor


def added(a: Vector, b: Vector, factor: float = 1.0) -> Vector:
    """Return ``a + factor * b``."""
    return a[0] + factor * b[0], a[1] + factor * b[1], a[2] + factor * b[2]


def unit(a: Vector) -> Vector:
    """Return ``a`` with length 1."""
    return scaled(a, 1 / math.sqrt(max(a[0] * a[0] + a[1] * a[1] + a[2] * a[2], 1e-12)))


def cross(a: Vector, b: Vector) -> Vector:
    """Return the vector product."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def spline(points: list[Vector], per_span: int) -> list[Vector]:
    """Return points on the Catmull-Rom spline through ``points``."""
    ends = [added(scaled(points[0], 2), points[1], -1), *points, added(scaled(points[-1], 2), points[-2], -1)]
    curve = []
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        for n in range(per_span):
            t = n / per_span
            weights = (
                -0.5 * t + t * t - 0.5 * t * t * t,
                1 - 2.5 * t * t + 1.5 * t * t * t,
                0.5 * t + 2 * t * t - 1.5 * t * t * t,
                -0.5 * t * t + 0.5 * t * t * t,
            )
            p = scaled(a, weights[0])
            for point, weight in zip((b, c, d), weights[1:], strict=True):
                p = added(p, point, weight)
            curve.append(p)
    return [*curve, points[-1]]


def walk(stream: Stream, start: Vector, heading: Vector, length: float, stride: float, wander: float) -> list[Vector]:
    """Return a path that starts at ``start`` and slowly changes its heading."""
    points, turn = [start], direction(stream)
    for _ in range(max(2, round(length / stride))):
        turn = unit(added(turn, direction(stream), 0.6))
        heading = unit(added(heading, turn, wander))
        points.append(added(points[-1], heading, stride))
    return points


def wavy(stream: Stream, count: int, low: float, high: float, knots: int) -> list[float]:
    """Return ``count`` values that vary smoothly between random knots."""
    values = [stream.uniform(low, high) for _ in range(knots + 1)]
    result = []
    for n in range(count):
        x = n * knots / max(count - 1, 1)
        i = min(int(x), knots - 1)
        t = x - i
        t = t * t * (3 - 2 * t)
        result.append(values[i] + t * (values[i + 1] - values[i]))
    return result


def on_ellipsoid(around: Rotation, radii: Vector, ahead: Vector, factor: float) -> Vector:
    """Return a point at ``factor`` of an ellipsoid's radius; the rows of ``around`` are its axes."""
    at: Vector = (0.0, 0.0, 0.0)
    for axis, radius, part in zip(around, radii, ahead, strict=True):
        at = added(at, axis, factor * radius * part)
    return at
