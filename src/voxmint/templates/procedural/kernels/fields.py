"""Distance fields of simple bodies."""

from __future__ import annotations

import numpy as np

from voxmint.templates.procedural.kernels._jit import Array, kernel


@kernel
def _span(low: float, high: float, step: float, size: int) -> tuple[int, int]:
    first = max(0, int(np.floor(low / step)))
    last = min(size, int(np.ceil(high / step)) + 1)
    return first, max(first, last)


@kernel
def _blend(a: float, b: float, width: float) -> float:
    """Minimum of two distances, rounded off over ``width`` (the polynomial smooth minimum)."""
    if width <= 0.0:
        return min(a, b)
    h = max(width - abs(a - b), 0.0) / width
    return min(a, b) - h * h * width * 0.25


@kernel
def unite_capsules(field: Array, step: float, capsules: Array, reach: float) -> None:
    """Unite tapered capsules with a field, in place.

    Parameters
    ----------
    field : (a, b, c) array
    step : float
    capsules : (n, 8) array
        Two end points and the radius at each.
    reach : float
        Distances are computed as far as this from a surface.
    """
    for n in range(capsules.shape[0]):
        a, b, ra, rb = capsules[n, 0:3], capsules[n, 3:6], capsules[n, 6], capsules[n, 7]
        pad = max(ra, rb) + reach
        i0, i1 = _span(min(a[0], b[0]) - pad, max(a[0], b[0]) + pad, step, field.shape[0])
        j0, j1 = _span(min(a[1], b[1]) - pad, max(a[1], b[1]) + pad, step, field.shape[1])
        k0, k1 = _span(min(a[2], b[2]) - pad, max(a[2], b[2]) + pad, step, field.shape[2])
        dx, dy, dz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        length2 = max(dx * dx + dy * dy + dz * dz, 1e-12)
        for i in range(i0, i1):
            x = i * step - a[0]
            for j in range(j0, j1):
                y = j * step - a[1]
                for k in range(k0, k1):
                    z = k * step - a[2]
                    t = min(max((x * dx + y * dy + z * dz) / length2, 0.0), 1.0)
                    px, py, pz = x - t * dx, y - t * dy, z - t * dz
                    distance = np.sqrt(px * px + py * py + pz * pz) - (ra + t * (rb - ra))
                    field[i, j, k] = min(field[i, j, k], distance)


@kernel
def combine_ellipsoids(field: Array, step: float, ellipsoids: Array, width: float, reach: float) -> None:
    """Unite ellipsoids with a field or cut them out of it, in place and in order.

    Parameters
    ----------
    field : (a, b, c) array
    step : float
    ellipsoids : (n, 16) array
        Centre, three radii, rotation matrix (rows are the axes), and +1 to unite or -1 to cut out.
    width : float
        Over which joins and cuts are rounded off.
    reach : float
        Distances are computed as far as this from a surface.
    """
    for n in range(ellipsoids.shape[0]):
        e = ellipsoids[n]
        pad = max(e[3], e[4], e[5]) + reach
        i0, i1 = _span(e[0] - pad, e[0] + pad, step, field.shape[0])
        j0, j1 = _span(e[1] - pad, e[1] + pad, step, field.shape[1])
        k0, k1 = _span(e[2] - pad, e[2] + pad, step, field.shape[2])
        for i in range(i0, i1):
            x = i * step - e[0]
            for j in range(j0, j1):
                y = j * step - e[1]
                for k in range(k0, k1):
                    z = k * step - e[2]
                    u = (e[6] * x + e[7] * y + e[8] * z) / e[3]
                    v = (e[9] * x + e[10] * y + e[11] * z) / e[4]
                    w = (e[12] * x + e[13] * y + e[14] * z) / e[5]
                    # first-order distance: the implicit function over its gradient's length
                    value = np.sqrt(u * u + v * v + w * w)
                    u, v, w = u / e[3], v / e[4], w / e[5]
                    slope = np.sqrt(u * u + v * v + w * w)
                    distance = value * (value - 1.0) / slope if slope > 1e-9 else -min(e[3], e[4], e[5])
                    if e[15] > 0.0:
                        field[i, j, k] = _blend(field[i, j, k], distance, width)
                    else:
                        field[i, j, k] = -_blend(-field[i, j, k], distance, width)


@kernel
def unite_sheet(field: Array, step: float, frame: Array, bend: Array, discs: Array, width: float, reach: float) -> None:
    """Unite a curved sheet with a field, in place.

    Parameters
    ----------
    field : (a, b, c) array
    step : float
    frame : (13,) array
        Centre, rotation matrix (rows are the axes u, v and the normal w), and half the thickness.
    bend : (5,) array
        The sheet is w = bend . (uu, uv, vv, uuu, uvv).
    discs : (n, 4) array
        Outline: centre u, v, radius, and +1 to add or -1 to cut out.
    width : float
        Over which the outline's corners are rounded off.
    reach : float
        Distances are computed as far as this from the surface.
    """
    extent = 0.0
    for n in range(discs.shape[0]):
        if discs[n, 3] > 0.0:
            out = np.sqrt(discs[n, 0] * discs[n, 0] + discs[n, 1] * discs[n, 1]) + discs[n, 2]
            extent = max(extent, out + width + reach + frame[12])
    for i in range(field.shape[0]):
        x = i * step - frame[0]
        for j in range(field.shape[1]):
            y = j * step - frame[1]
            for k in range(field.shape[2]):
                z = k * step - frame[2]
                u = frame[3] * x + frame[4] * y + frame[5] * z
                v = frame[6] * x + frame[7] * y + frame[8] * z
                w = frame[9] * x + frame[10] * y + frame[11] * z
                if u * u + v * v > extent * extent:
                    continue
                height = bend[0] * u * u + bend[1] * u * v + bend[2] * v * v + bend[3] * u * u * u + bend[4] * u * v * v
                gu = 2.0 * bend[0] * u + bend[1] * v + 3.0 * bend[3] * u * u + bend[4] * v * v
                gv = bend[1] * u + 2.0 * bend[2] * v + 2.0 * bend[4] * u * v
                across = (w - height) / np.sqrt(1.0 + gu * gu + gv * gv)
                if abs(across) > reach + frame[12]:
                    continue
                outline = 1e3
                for n in range(discs.shape[0]):
                    du, dv = u - discs[n, 0], v - discs[n, 1]
                    distance = np.sqrt(du * du + dv * dv) - discs[n, 2]
                    if discs[n, 3] > 0.0:
                        outline = _blend(outline, distance, width)
                    else:
                        outline = -_blend(-outline, distance, width)
                beyond = max(outline, 0.0)
                distance = np.sqrt(beyond * beyond + across * across) - frame[12]
                field[i, j, k] = min(field[i, j, k], distance)
