"""Do the ids of a target name instances, or kinds of them? Looked up once, before a run."""

from __future__ import annotations

from collections.abc import Sequence

from voxmint.errors import ChunkError
from voxmint.instances.recipe import InstanceRecipe
from voxmint.instances.table.rows import rows_of
from voxmint.instances.table.table import Instance, Rows
from voxmint.volumes.box import Box, voxel_at_nm
from voxmint.volumes.layer import Layer

_POINTS = 64
_HITS = 8
_DISTINCT = 0.9


def settled(recipe: InstanceRecipe, target: Layer, rows: Rows | Sequence[Instance]) -> InstanceRecipe:
    """Return the recipe with ``choice.by`` ``id`` in place of ``auto`` if the target carries one id per instance.

    That is taken as proven if up to 64 rows, evenly spread, find at least 8 ids at their centres of which at least 90 %
    are distinct. A mask or a segmentation by class has few ids, however many instances. Done once before
    a run and recorded in its recipe, since a sample must not depend on what other rows there are.
    Rows whose chunk cannot be read do not count.
    """
    if recipe.choice.by != "auto" or not len(rows):
        return recipe
    step = max(1, len(rows) // _POINTS)
    centres = rows_of(rows).centre_nm[::step][:_POINTS]
    voxels = (voxel_at_nm(centre, target.voxel_size_nm) for centre in centres.tolist())
    boxes = [Box.at(voxel, (1, 1, 1)) for voxel in voxels]
    ids = []
    for _, cutout in target.read_many(boxes):
        if not isinstance(cutout, ChunkError):  # the samples that need it will tell
            ids.append(int(cutout.array[0, 0, 0]))
    hits = [label for label in ids if label != 0]
    if len(hits) < _HITS or len(set(hits)) < _DISTINCT * len(hits):
        return recipe
    return recipe.model_copy(update={"choice": recipe.choice.model_copy(update={"by": "id"})})
