"""Bodies that look like anatomy in kind, each drawn from a stream. Lengths are voxels of about 1.5 mm."""

from __future__ import annotations

from collections.abc import Callable

from voxmint.randomness import Stream
from voxmint.templates.procedural.bodies import (
    Body,
    Vector,
    added,
    cross,
    direction,
    on_ellipsoid,
    rotation,
    scaled,
    size,
    spline,
    unit,
    walk,
    wavy,
)


def blob(stream: Stream) -> Body:
    """Draw a smooth irregular body: gland, node, cyst, spleen."""
    radius = size(stream, 12, 58)
    warp, spacing = radius * stream.uniform(0.2, 0.35), radius * stream.uniform(0.7, 1.1)
    body = Body(blend=radius * 0.5, warp=warp, warp_spacing=spacing, bump=min(2.0, radius * 0.06),
                bump_spacing=max(6.0, radius * 0.3))  # fmt: skip
    centre: Vector = (0.0, 0.0, 0.0)
    for _ in range(stream.integer(1, 4)):
        radii = (
            radius * stream.uniform(0.7, 1.1),
            radius * stream.uniform(0.45, 0.9),
            radius * stream.uniform(0.35, 0.8),
        )
        body.ellipsoid(centre, radii, rotation(stream))
        centre = added(centre, direction(stream), radius * stream.uniform(0.4, 0.8))
        radius *= stream.uniform(0.5, 0.9)
    return body


def organ(stream: Stream) -> Body:
    """Draw a large lobed organ with impressions of its neighbours: liver, lung, stomach, kidney."""
    radius = size(stream, 27, 92)
    body = Body(blend=radius * 0.16, warp=radius * 0.13, warp_spacing=radius * 0.7, bump=min(1.8, radius * 0.03),
                bump_spacing=max(8.0, radius * 0.25))  # fmt: skip
    around = rotation(stream)
    radii = (radius, radius * stream.uniform(0.45, 0.85), radius * stream.uniform(0.35, 0.7))
    body.ellipsoid((0.0, 0.0, 0.0), radii, around)
    for _ in range(stream.integer(1, 4)):
        at = on_ellipsoid(around, radii, direction(stream), 0.75)
        lobe = radius * stream.uniform(0.3, 0.55)
        body.ellipsoid(at, (lobe, lobe * stream.uniform(0.5, 1), lobe * stream.uniform(0.5, 1)), rotation(stream))
    for _ in range(stream.integer(1, 4)):
        at = on_ellipsoid(around, radii, direction(stream), stream.uniform(1.0, 1.3))
        dent = radius * stream.uniform(0.35, 0.95)
        body.ellipsoid(at, (dent, dent * stream.uniform(0.5, 1), dent * stream.uniform(0.4, 1)), rotation(stream), -1.0)
    return body


def tube(stream: Stream) -> Body:
    """Draw a bent tube of changing width: gullet, aorta, spinal cord."""
    length = size(stream, 58, 225)
    width = length * stream.uniform(0.045, 0.11)
    stride = max(2.0, width * 0.5)
    path = walk(stream, (0.0, 0.0, 0.0), direction(stream), length, stride, stream.uniform(0.02, 0.16))
    body = Body(warp=width * 0.5, warp_spacing=length * 0.12, bump=min(1.0, width * 0.15), bump_spacing=8.0)
    body.tube(path, wavy(stream, len(path), max(1.6, width * 0.65), width * 1.35, 4))
    return body


def bowel(stream: Stream) -> Body:
    """Draw a long folded tube with pouches: colon, small bowel."""
    extent = size(stream, 36, 88)
    width = extent * stream.uniform(0.12, 0.22)
    knots: list[Vector] = [scaled(direction(stream), 0.5 * extent)]
    for _ in range(stream.integer(7, 16)):
        # each bend leaves the last one by about the same way, and stays inside a flat ellipsoid
        while True:
            x, y, z = added(knots[-1], direction(stream), extent * 0.75)
            if x * x + y * y + 3 * z * z < extent * extent:
                break
        knots.append((x, y, z))
    path = spline(knots, max(8, round(2.4 * extent / width)))
    pouch = stream.integer(4, 8)
    radii = wavy(stream, len(path), width * 0.75, width * 1.2, 2 * len(knots))
    squeeze = stream.uniform(0.0, 0.4)
    radii = [r * (1 - squeeze * (abs(2 * (n % pouch) - pouch) / pouch)) for n, r in enumerate(radii)]
    body = Body(warp=width * 0.4, warp_spacing=width * 2.5, bump=min(1.2, width * 0.12), bump_spacing=7.0)
    body.tube(path, radii)
    return body


def tree(stream: Stream) -> Body:
    """Draw a branching vessel tree; a parent's cubed radius is shared by its children (Murray's law)."""
    trunk = size(stream, 5.5, 11)
    body = Body(warp=trunk * 0.45, warp_spacing=trunk * 4, bump=0.35, bump_spacing=6.0)
    thinnest = stream.uniform(2.0, 2.8)
    wander = stream.uniform(0.06, 0.16)
    open_ends = [((0.0, 0.0, 0.0), direction(stream), trunk)]
    while open_ends:
        start, heading, radius = open_ends.pop()
        if radius < thinnest or len(body.capsules) > 1500:
            continue
        length = radius * stream.uniform(2.2, 5.5) + 3
        path = walk(stream, start, heading, length, max(1.5, radius * 0.6), wander)
        tip = radius * 0.9
        body.tube(path, [radius + (tip - radius) * n / (len(path) - 1) for n in range(len(path))])
        ahead = unit(added(path[-1], path[-2], -1))
        side = unit(cross(ahead, direction(stream)))
        share = stream.uniform(0.1, 0.5)
        # a straight line for each in place of the cube roots of 1 - share and share, which it follows to a few per cent
        thick, thin = tip * (1 - 0.4 * share), tip * (0.5 + 0.58 * share)
        open_ends.append((path[-1], unit(added(ahead, side, stream.uniform(0.25, 0.6))), thick))
        open_ends.append((path[-1], unit(added(ahead, side, -stream.uniform(0.5, 1.1))), thin))
    return body


def shell(stream: Stream) -> Body:
    """Draw a hollow body, closed or open, thick or thin: skull, heart wall, bladder, windpipe."""
    if stream.chance(0.3):
        body = tube(stream)
        body.capsules = [(*c[:6], max(4.0, 1.3 * c[6]), max(4.0, 1.3 * c[7])) for c in body.capsules]
        body.wall = stream.uniform(2.4, 3.6)
        end = body.capsules[-1]
        heading = unit((end[3] - end[0], end[4] - end[1], end[5] - end[2]))
        at = added((end[3], end[4], end[5]), heading, -max(end[6], end[7]) - 2)
        body.plane = (*heading, heading[0] * at[0] + heading[1] * at[1] + heading[2] * at[2])
        return body
    body = blob(stream) if stream.chance(0.5) else organ(stream)
    least = min(min(e[3:6]) for e in body.ellipsoids if e[15] > 0)
    body.wall = max(2.5, least * stream.uniform(0.15, 0.5))
    body.bump = min(body.bump, body.wall * 0.3)
    if stream.chance(0.65):
        normal = direction(stream)
        body.plane = (*normal, least * stream.uniform(-0.3, 0.6))
    return body


def plate(stream: Stream) -> Body:
    """Draw a curved sheet with a thick rim, a ridge and a hole at times: scapula, hip, sternum."""
    extent = size(stream, 36, 88)
    thickness = max(2.2, extent * stream.uniform(0.035, 0.065))
    body = Body(warp=extent * 0.1, warp_spacing=extent * 0.6, bump=min(0.8, thickness * 0.3), bump_spacing=8.0)
    around = rotation(stream)
    discs = [(0.0, 0.0, extent * stream.uniform(0.4, 0.65), 1.0)]
    for _ in range(stream.integer(1, 4)):
        ahead = direction(stream)
        discs.append((extent * 0.8 * ahead[0], extent * 0.8 * ahead[1], extent * stream.uniform(0.2, 0.45), 1.0))
    if stream.chance(0.6):
        ahead = direction(stream)
        discs.append((extent * 0.9 * ahead[0], extent * 0.9 * ahead[1], extent * stream.uniform(0.2, 0.4), -1.0))
    if stream.chance(0.35):
        discs.append((extent * stream.uniform(-0.3, 0.3), extent * stream.uniform(-0.3, 0.3), extent * 0.18, -1.0))
    bend = [stream.uniform(-0.9, 0.9) / extent for _ in range(3)]
    bend += [stream.uniform(-0.5, 0.5) / (extent * extent) for _ in range(2)]
    frame = (0.0, 0.0, 0.0, *around[0], *around[1], *around[2], thickness)
    body.sheets.append((frame, tuple(bend), discs))
    # a ridge across the sheet and a head at its end
    reach = discs[0][2]
    ends = [(reach * stream.uniform(-0.8, -0.4), reach * stream.uniform(-0.4, 0.4)),
            (reach * stream.uniform(0.5, 1.0), reach * stream.uniform(-0.4, 0.4))]  # fmt: skip
    path, lift = [], stream.uniform(0.0, 0.2) * extent
    for n in range(13):
        t = n / 12
        u, v = (ends[0][m] + t * (ends[1][m] - ends[0][m]) for m in range(2))
        w = bend[0] * u * u + bend[1] * u * v + bend[2] * v * v + bend[3] * u * u * u + bend[4] * u * v * v + t * lift
        path.append(added(added(scaled(around[0], u), around[1], v), around[2], w))
    body.tube(path, [thickness * (1.0 + 1.5 * (n / 12) * (n / 12)) for n in range(13)])
    return body


def bone(stream: Stream) -> Body:
    """Draw a long bone: a slightly bent shaft that widens to both ends, with a head."""
    length = size(stream, 80, 215)
    width = length * stream.uniform(0.04, 0.065)
    path = walk(stream, (0.0, 0.0, 0.0), direction(stream), length, max(2.0, width * 0.5), 0.015)
    flare, radii = stream.uniform(0.7, 1.5), []
    for n in range(len(path)):
        t = abs(2 * n / (len(path) - 1) - 1)
        radii.append(width * (1 + flare * t * t * t * t))
    body = Body(blend=width, warp=width * 0.6, warp_spacing=length * 0.2, bump=min(1.2, width * 0.15), bump_spacing=9.0)
    body.tube(path, radii)
    for end, count in ((path[-1], stream.integer(1, 4)), (path[0], stream.integer(0, 3))):
        for _ in range(count):
            radius = width * stream.uniform(1.2, 2.0)
            body.ellipsoid(
                added(end, direction(stream), width * 1.8), (radius, radius * 0.85, radius * 0.75), rotation(stream)
            )
    return body


def muscle(stream: Stream) -> Body:
    """Draw a flat spindle that follows a curve: psoas, gluteus, back muscle."""
    length = size(stream, 60, 190)
    width, flat = length * stream.uniform(0.09, 0.2), stream.uniform(0.3, 0.7)
    path = walk(stream, (0.0, 0.0, 0.0), direction(stream), length, length / 14, 0.08)
    body = Body(blend=width * 0.8, warp=width * 0.35, warp_spacing=length * 0.25, bump=min(1.5, width * 0.08),
                bump_spacing=max(7.0, width * 0.5))  # fmt: skip
    side = direction(stream)
    skew = stream.uniform(0.8, 2.2)
    for n in range(1, len(path) - 1):
        t = n / (len(path) - 1)
        t = t * (1 + (skew - 1) * (1 - t)) / (1 + (skew - 1) * 0.5) if skew != 1 else t
        belly = width * (0.25 + 3 * min(t, 1.0) * max(1 - t, 0.05))
        axis = unit(added(path[n + 1], path[n - 1], -1))
        across = unit(cross(axis, side))
        body.ellipsoid(path[n], (length / 7, belly, belly * flat), (axis, across, cross(axis, across)))
    return body


def vertebrae(stream: Stream) -> Body:
    """Draw a row of vertebra-like bodies, each with an arch around a canal and processes."""
    count, radius = stream.integer(3, 13), stream.uniform(8, 13.5)
    pitch = radius * stream.uniform(1.15, 1.45)
    path = walk(stream, (0.0, 0.0, 0.0), direction(stream), pitch * (count + 1), pitch, 0.06)
    body = Body(many=True, blend=1.5, warp=radius * 0.22, warp_spacing=radius * 2.2, bump=0.6, bump_spacing=6.0)
    back, growth = direction(stream), stream.uniform(0.96, 1.04)
    for n in range(1, count + 1):
        axis = unit(added(path[n + 1], path[n - 1], -1))
        side = unit(cross(axis, back))
        behind = cross(side, axis)
        at, thin = path[n], max(2.3, radius * 0.22)
        body.ellipsoid(at, (pitch * 0.47, radius * 1.05, radius * 0.8), (axis, side, behind))
        roof = added(at, behind, radius * 1.75)
        for sign in (-1.0, 1.0):
            root = added(added(at, behind, radius * 0.6), side, sign * radius * 0.6)
            corner = added(added(at, behind, radius * 1.25), side, sign * radius * 0.75)
            wing = added(added(corner, side, sign * radius * stream.uniform(0.8, 1.2)), behind, radius * 0.3)
            body.tube([root, corner, roof], [thin * 1.2, thin * 1.2, thin])
            body.tube([corner, wing], [thin * 1.1, thin * 0.8])
        tip = added(added(roof, behind, radius * stream.uniform(0.8, 1.2)), axis, -pitch * stream.uniform(0.2, 0.6))
        body.tube([roof, tip], [thin, thin * 0.9])
        radius *= growth
    return body


def ribs(stream: Stream) -> Body:
    """Draw rows of arched bars on both sides, or on one, like a rib cage."""
    count, spread = stream.integer(5, 11), size(stream, 42, 85)
    pitch, thick = spread * stream.uniform(0.2, 0.28), max(2.6, spread * stream.uniform(0.045, 0.06))
    sides = (-1.0, 1.0) if stream.chance(0.75) else (1.0,)
    slope, depth = stream.uniform(0.1, 0.6) * spread, spread * stream.uniform(0.7, 1.1)
    body = Body(many=True, warp=spread * 0.06, warp_spacing=spread * 0.5, bump=0.5, bump_spacing=6.0)
    for n in range(count):
        t = n / max(count - 1, 1)
        wide = spread * (0.45 + 2.2 * (0.25 + 0.6 * t) * (1.05 - 0.75 * t))
        open_end = stream.uniform(0.75, 1.0) if t < 0.7 else stream.uniform(0.4, 0.7)
        for sign in sides:
            knots: list[Vector] = [
                (n * pitch, sign * spread * 0.12, 0.0),
                (n * pitch + slope * 0.15, sign * wide * 0.62, -depth * 0.12),
                (n * pitch + slope * 0.5, sign * wide, depth * 0.45),
                (n * pitch + slope * 0.9, sign * wide * 0.85, depth * 1.05),
                (n * pitch + slope * 1.0, sign * wide * 0.35, depth * 1.45),
            ]
            path = spline(knots, 8)
            path = path[: max(6, round(len(path) * open_end))]
            body.tube(path, wavy(stream, len(path), thick * 0.8, thick * 1.25, 3))
    return body


def cluster(stream: Stream) -> Body:
    """Draw many small bodies scattered along a curve: nodes, lesions, lobules."""
    count, radius = stream.integer(6, 24), stream.uniform(6, 13)
    path = walk(stream, (0.0, 0.0, 0.0), direction(stream), radius * count * 0.7, radius, 0.2)
    body = Body(many=True, blend=1.0, warp=radius * 0.4, warp_spacing=radius * 1.6, bump=0.5, bump_spacing=5.0)
    spread = radius * stream.uniform(1.5, 4.5)
    for _ in range(count):
        at = added(stream.choice(path), direction(stream), spread * stream.unit())
        r = radius * stream.uniform(0.45, 1.15)
        body.ellipsoid(at, (r, r * stream.uniform(0.5, 1), r * stream.uniform(0.4, 1)), rotation(stream))
    return body


KINDS: dict[str, Callable[[Stream], Body]] = {
    kind.__name__: kind
    for kind in (blob, organ, tube, bowel, tree, shell, plate, bone, muscle, vertebrae, ribs, cluster)
}
"""Every kind of body by name."""
COMPACT = (blob, organ, tube, muscle, blob, organ, tube, muscle, bone, bowel, tree, blob)
ROUND = (*KINDS, *(kind.__name__ for kind in COMPACT))
"""The kinds of shapes in order, round and round: as in a body, most are compact, and few are rows or sheets."""
