"""Errors of a hand-drawn outline: shifted, too wide or too narrow, a part missed. Drawn first, then applied."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from voxmint.instances.recipe import OutlineErrorRecipe
from voxmint.randomness import Stream
from voxmint.sample import JSON

Plane = NDArray[np.bool_]
_DIRECTIONS = 8


def draw_outline_error(stream: Stream, recipe: OutlineErrorRecipe) -> JSON | None:
    """Draw the errors of one slice.

    Returns
    -------
    dict or None
        ``shift`` (rows, columns), ``radius`` (negative erodes), ``missing`` with ``direction`` and ``share``, or None;
        None instead of all when the slice has no errors.
    """
    if not stream.chance(recipe.probability):
        return None
    shift = [stream.integer(-recipe.shift_vx, recipe.shift_vx + 1) for _ in range(2)]
    radius = stream.integer(-recipe.radius_vx, recipe.radius_vx + 1)
    missing = None
    if stream.chance(recipe.missing_probability):
        direction = (0, 0)
        while direction == (0, 0):
            direction = (stream.integer(-_DIRECTIONS, _DIRECTIONS + 1), stream.integer(-_DIRECTIONS, _DIRECTIONS + 1))
        missing = {"direction": list(direction), "share": stream.uniform(*recipe.missing_share)}
    return {"shift": shift, "radius": radius, "missing": missing}


def apply_outline_error(plane: Plane, error: JSON) -> Plane:
    """Return the outline with the errors that `draw_outline_error` drew; a step that would leave nothing is left out.

    Parameters
    ----------
    plane : bool (rows, columns)
        The right outline, filled.
    error : dict
        See `draw_outline_error`.
    """
    steps = [_resized(plane, error["radius"])]
    if error["missing"] is not None:
        steps.append(_cut(steps[-1] if steps[-1].any() else plane, **error["missing"]))
    last = next((step for step in reversed(steps) if step.any()), plane)
    shifted = _moved(last, *error["shift"])
    return shifted if shifted.any() else last


def _resized(plane: Plane, radius: int) -> Plane:
    """Dilate by a disc, or erode by one of ``-radius``; what lies beyond the crop does neither."""
    if radius == 0:
        return plane
    grown = plane if radius > 0 else ~plane
    reach = range(-abs(radius), abs(radius) + 1)
    disc = [(r, c) for r, c in product(reach, reach) if r * r + c * c <= radius * radius]
    result: Plane = np.logical_or.reduce([_moved(grown, r, c) for r, c in disc])
    return result if radius > 0 else ~result


def _cut(plane: Plane, direction: list[int], share: float) -> Plane:
    """Leave out about ``share`` of the outlined pixels: those furthest on one side, up to a straight line."""
    rows, columns = np.nonzero(plane)
    along = direction[0] * rows + direction[1] * columns
    limit = np.sort(along)[min(int(share * along.size), along.size - 1)]
    kept = np.zeros_like(plane)
    kept[rows[along >= limit], columns[along >= limit]] = True
    return kept


def _moved(plane: Plane, rows: int, columns: int) -> Plane:
    moved = np.zeros_like(plane)
    if abs(rows) < plane.shape[0] and abs(columns) < plane.shape[1]:
        moved[_to(rows), _to(columns)] = plane[_to(-rows), _to(-columns)]
    return moved


def _to(shift: int) -> slice:
    return slice(shift, None) if shift >= 0 else slice(None, shift)
