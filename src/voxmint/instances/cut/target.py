"""Which object of the target is the instance of a row: named by id, or found by its distance in nm to the row's points.

Points and distances are absolute, so neither padding nor the crop's position decides. Arrays are (z, y, x), boxes and
points (x, y, z). Components are labelled with SciPy, and only around the chosen voxel: a third-party labeller of whole
volumes would be one more compiled dependency for work that is not needed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import RejectedSample
from voxmint.instances.recipe import ChoiceRecipe
from voxmint.instances.table.table import Instance
from voxmint.volumes.box import Box, Lengths, Voxels, voxel_at_nm

Labels = NDArray[Any]
Mask = NDArray[np.bool_]
_FIRST_REACH = (6, 24, 24)  # (z, y, x) voxels: most clefts fit, and labelling costs by the voxel


@dataclass(frozen=True)
class Chosen:
    """An instance found in the target.

    Attributes
    ----------
    mask : bool (z, y, x)
        The instance on the voxels of ``box``; it is nowhere else.
    box : Box
        In absolute target voxels.
    label : int
        Its id in the target.
    by : {"table id", "id", "component"}
        Whether the row named the id, or what was found at or nearest to its points was taken by id or as a component.
    distance_nm : float
        From the row's point or segment to the nearest voxel of the instance, 0 where that holds it.
    voxels : int
        Number of target voxels.
    """

    mask: Mask
    box: Box
    label: int
    by: str
    distance_nm: float
    voxels: int

    def within(self, box: Box) -> Chosen:
        """Return what of the instance lies in a box of target voxels.

        Raises
        ------
        RejectedSample
            Nothing does.
        """
        common = self.box.intersect(box)
        mask = self.mask[common.slices(self.box)[::-1]]
        if not mask.any():
            raise RejectedSample("the instance lies wholly outside the crop, in the context that was read around it")
        return _tight(mask, common, (0, 0, 0), self.label, self.by, self.distance_nm)


def choose(labels: Labels, box: Box, voxel_size_nm: Lengths, row: Instance, recipe: ChoiceRecipe) -> Chosen:
    """Find the instance of a row.

    Parameters
    ----------
    labels : integer (z, y, x)
        The target within the crop; 0 is background.
    box : Box
        Where that is, absolute target voxels.
    voxel_size_nm : lengths (x, y, z)
        Voxel size of the target.
    row : Instance
        Its points and, if the table knows it, its id in the target.
    recipe : ChoiceRecipe
        How to choose.

    Raises
    ------
    RejectedSample
        There is none, or none within the stated distance.
    """
    place = _Place(box, voxel_size_nm, row, recipe)
    named = row.target_id if recipe.by != "nearest" else None
    window = place.within_reach()
    near = labels[window.slices(box)[::-1]]
    wanted = near != 0 if named is None else near == named
    found = place.nearest(wanted, window)
    if found is None:
        raise _nothing_near(labels, named, recipe)
    at, distance = found
    label = near[at]
    if named is None and recipe.by != "id":
        corner = [a + o - b for a, o, b in zip(at, window.start[::-1], box.start[::-1], strict=True)]
        mask, origin = component_at(labels, (corner[0], corner[1], corner[2]), recipe.connectivity)
        by = "component"
    else:
        mask, origin, by = labels == label, (0, 0, 0), "id" if named is None else "table id"
    return _tight(mask, box, origin, int(label), by, distance)


def component_at(labels: Labels, at: Voxels, connectivity: int = 26) -> tuple[Mask, Voxels]:
    """Return the connected component, of one label, that holds a voxel.

    Labelled in a window that is doubled until the component touches none of its sides.

    Parameters
    ----------
    labels : integer (z, y, x)
        Labels.
    at : three int
        The voxel (z, y, x).
    connectivity : {6, 18, 26}
        Neighbours of a voxel.

    Returns
    -------
    mask : bool (z, y, x)
        The component, in a window.
    origin : three int
        First voxel (z, y, x) of the window.
    """
    from scipy import ndimage

    structure = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    reach = _FIRST_REACH
    while True:
        low = [max(0, a - r) for a, r in zip(at, reach, strict=True)]
        high = [min(n, a + r + 1) for a, r, n in zip(at, reach, labels.shape, strict=True)]
        same = labels[low[0] : high[0], low[1] : high[1], low[2] : high[2]] == labels[at]
        parts, _ = ndimage.label(same, structure)
        mask = parts == parts[at[0] - low[0], at[1] - low[1], at[2] - low[2]]
        if not _touches_open_side(mask, low, high, labels.shape):
            return mask, (low[0], low[1], low[2])
        reach = (2 * reach[0], 2 * reach[1], 2 * reach[2])


class _Place:
    """Where a row's points lie among target voxels, and how far voxels are from them.

    Points count as the centres of the voxels that hold them. Tables name voxels by whole numbers, their lower corners;
    measured from there, the neighbours below would be as near as the voxel that is meant.
    """

    def __init__(self, box: Box, voxel_size_nm: Lengths, row: Instance, recipe: ChoiceRecipe) -> None:
        self.box, self.row, self.recipe = box, row, recipe
        self.size = [float(n) for n in voxel_size_nm]
        self.centre = voxel_at_nm(row.centre_nm, voxel_size_nm)
        self.ends = (self.centre, self.centre)
        if recipe.nearest_to == "segment":
            if row.pre_nm is None or row.post_nm is None:
                raise RejectedSample("the row has no pre and post points to measure distances to")
            self.ends = (voxel_at_nm(row.pre_nm, voxel_size_nm), voxel_at_nm(row.post_nm, voxel_size_nm))

    def within_reach(self) -> Box:
        """Return the part of the crop that can be near enough."""
        reach = [int(self.recipe.max_distance_nm / n) + 1 for n in self.size]
        low = [min(a, b) - r for a, b, r in zip(*self.ends, reach, strict=True)]
        high = [max(a, b) + r + 1 for a, b, r in zip(*self.ends, reach, strict=True)]
        return Box((low[0], low[1], low[2]), (high[0], high[1], high[2])).intersect(self.box)

    def nearest(self, mask: Mask, window: Box) -> tuple[Voxels, float] | None:
        """Return the voxel (z, y, x) of ``mask`` nearest to the points, and its distance in nm; None if none is near.

        Of equally near ones it is the one nearest to the centre, and then the first in (z, y, x).
        """
        if self.recipe.nearest_to == "centre" and window.contains(self.centre):
            x, y, z = (c - s for c, s in zip(self.centre, window.start, strict=True))
            if mask[z, y, x]:
                return (z, y, x), 0.0
        zyx = np.nonzero(mask)
        if zyx[0].size == 0:
            return None
        voxels = [a + s for a, s in zip(zyx[::-1], window.start, strict=True)]
        to_centre = self._squared(voxels, self.centre, self.centre)
        squared = to_centre if self.recipe.nearest_to == "centre" else self._squared(voxels, *self.ends)
        best = int(np.lexsort((to_centre, squared))[0]) if squared is not to_centre else int(np.argmin(squared))
        distance = sqrt(float(squared[best]))
        if distance > self.recipe.max_distance_nm:
            return None
        return (int(zyx[0][best]), int(zyx[1][best]), int(zyx[2][best])), distance

    def _squared(self, voxels: Sequence[NDArray[Any]], start: Voxels, stop: Voxels) -> NDArray[np.float64]:
        """Return squared distances in nm from voxels to a segment, by single operations in a fixed order."""
        away = [(v - a) * n for v, a, n in zip(voxels, start, self.size, strict=True)]
        if start != stop:
            along = [(b - a) * n for a, b, n in zip(start, stop, self.size, strict=True)]
            length = along[0] * along[0] + along[1] * along[1] + along[2] * along[2]
            share = (away[0] * along[0] + away[1] * along[1] + away[2] * along[2]) / length
            share = np.clip(share, 0.0, 1.0)
            away = [d - share * a for d, a in zip(away, along, strict=True)]
        squared: NDArray[np.float64] = away[0] * away[0] + away[1] * away[1] + away[2] * away[2]
        return squared


def _nothing_near(labels: Labels, named: int | None, recipe: ChoiceRecipe) -> RejectedSample:
    what = f"the target's id {named}, which the row names," if named is not None else "no mask"
    is_there = bool((labels != 0).any() if named is None else (labels == named).any())
    place = "the centre" if recipe.nearest_to == "centre" else "the segment between pre and post point"
    if not is_there:
        return RejectedSample("there is no mask in the crop" if named is None else f"{what} is not in the crop")
    lies = "lies" if named is None else "does not lie"
    return RejectedSample(f"{what} {lies} within {recipe.max_distance_nm:g} nm of {place}")


def _touches_open_side(mask: Mask, low: list[int], high: list[int], shape: tuple[int, ...]) -> bool:
    for axis in range(3):
        if low[axis] > 0 and mask.take(0, axis).any():
            return True
        if high[axis] < shape[axis] and mask.take(-1, axis).any():
            return True
    return False


def _tight(mask: Mask, box: Box, origin: Voxels, label: int, by: str, distance: float) -> Chosen:
    """Cut a mask to its bounding box."""
    z0, z1 = _span(mask.any(axis=(1, 2)))
    plane = np.asarray(mask[z0:z1].any(axis=0))
    y0, y1 = _span(plane.any(axis=1))
    x0, x1 = _span(plane.any(axis=0))
    inner = mask[z0:z1, y0:y1, x0:x1]
    start = [b + o + s for b, o, s in zip(box.start, origin[::-1], (x0, y0, z0), strict=True)]
    return Chosen(inner, Box.at(start, inner.shape[::-1]), label, by, distance, int(np.count_nonzero(inner)))


def _span(line: Any) -> tuple[int, int]:
    held = np.flatnonzero(line)
    return int(held[0]), int(held[-1]) + 1
