"""A seed: the mask of an instance on a few slices, with the errors of a hurried hand if the recipe wants any."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from voxmint.instances.cut.cutout import Bytes
from voxmint.instances.cut.outline import apply_outline_error, draw_outline_error
from voxmint.instances.cut.seeds import keep_slices
from voxmint.instances.recipe import InstanceRecipe
from voxmint.randomness import Stream
from voxmint.sample import JSON


def keep_as_seed(stream: Stream, recipe: InstanceRecipe, target: Bytes, slices: Sequence[int]) -> tuple[Bytes, JSON]:
    """Keep a mask on a few slices.

    Parameters
    ----------
    stream : Stream
        Of this sample's seed alone: (seed of the data set, "instance", id, scenario).
    recipe : InstanceRecipe
        Models of slices and errors, and the axis along which slices are counted.
    target : uint8 (z, y, x)
        The mask.
    slices : sequence of int
        On which slices it is.

    Returns
    -------
    uint8 (z, y, x)
        The seed; cannot be written.
    dict
        JSON-able: the slices kept, and the errors.

    Raises
    ------
    RejectedSample
        There are fewer slices than are to be kept at the least.
    """
    axis = "zyx".index(recipe.slice_axis)
    kept = [slices[n] for n in keep_slices(stream, recipe.seeds, len(slices))]
    seed = np.zeros(target.shape, np.uint8)
    planes, masks = np.moveaxis(seed, axis, 0), np.moveaxis(target, axis, 0)
    errors: JSON = {}
    for number in kept:
        planes[number] = masks[number]
        error = draw_outline_error(stream, recipe.outline_error)
        if error is not None:
            errors[str(number)] = error
            planes[number] = apply_outline_error(masks[number] != 0, error)
    seed.flags.writeable = False
    return seed, {"kept_slices": kept, "outline_errors": errors}
