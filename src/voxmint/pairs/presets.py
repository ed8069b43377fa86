"""Recipes by name: the published one, and two for other ways of imaging. A preset is a few fields over the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from voxmint.errors import RecipeError
from voxmint.pairs.recipe import PairRecipe, ViewRecipe
from voxmint.recipe import Recipe
from voxmint.sample import JSON

Preset = Literal["published", "anisotropic", "microscopy"]
RecipeType = TypeVar("RecipeType", bound=Recipe)

PRESETS: Mapping[str, JSON] = {
    "published": {},
    # 2D multi-slice MRI and CT of thick slices: a field of view of 160 mm a side in voxels of 1 x 1 x 2.5 mm, of which
    # most images are acquired in thicker slices still, and some blurred by a resolution of its own along each axis
    "anisotropic": {
        "shape": [160, 160, 64],
        "voxel_size": [1.0, 1.0, 2.5],
        "view": {
            "artifacts": {
                "low_resolution_probability": 0.5,
                "low_resolution_per_axis": True,
                "thick_slices_probability": 0.75,
                "thick_slices_thickness": [1.0, 3.0],
                "thick_slices_axes": [2],
            }
        },
    },
    # stacks of a light microscope: hundreds of small objects that fill the field of view, most often on a dark
    # background; strong noise, uneven illumination, optics that blur more along the axis of the light; no MRI artifacts
    "microscopy": {
        "scale": [2.0, 4.0],
        "min_templates": 12,
        "max_templates": 25,
        "foreground": {"probability": 0.0},
        "view": {
            "std": [20.0, 70.0],
            "empty_background_probability": 0.5,
            "artifacts": {
                "bias_field_coefficients": [0.0, 0.1],
                "kspace_spike_probability": 0.0,
                "smoothing_probability": 0.9,
                "smoothing_sigma": [0.2, 0.6],
                "gibbs_probability": 0.0,
                "sharpening_probability": 0.0,
                "thick_slices_probability": 0.8,
                "thick_slices_thickness": [1.5, 3.5],
                "thick_slices_axes": [2],
            },
        },
    },
}
"""The fields of a `PairRecipe` in which a preset differs from the defaults."""


def preset_fields(name: str, kind: type[Recipe] = PairRecipe) -> JSON:
    """Return the fields of a preset that a kind of recipe has: of pairs, of ensembles alone, or of views.

    Raises
    ------
    RecipeError
        There is no preset of this name.
    """
    if name not in PRESETS:
        raise RecipeError("unknown preset", where="--preset", expected=f"one of: {', '.join(PRESETS)}", got=name)
    fields: JSON = PRESETS[name]
    if issubclass(kind, ViewRecipe):
        return dict(fields.get("view", {}))
    return {field: value for field, value in fields.items() if field in kind.model_fields}


def preset(name: Preset, **fields: Any) -> PairRecipe:
    """Return the recipe of a preset, with other fields over it.

    Parameters
    ----------
    name : {"published", "anisotropic", "microscopy"}
        The preset.
    **fields
        Fields of `PairRecipe` at the top that replace those of the preset; ``side`` replaces a ``shape``.

    Examples
    --------
    >>> import voxmint as vm
    >>> vm.preset("anisotropic").voxel_size
    (1.0, 1.0, 2.5)
    >>> vm.preset("anisotropic", side=64).volume
    (64, 64, 64)
    """
    return PairRecipe.from_dict(over(preset_fields(name), fields))


def over(values: JSON, given: JSON) -> JSON:
    """Return fields with others over them, at any depth; a ``side`` replaces a ``shape``, and the other way round."""
    merged = dict(values)
    for name, other in (("side", "shape"), ("shape", "side")):
        if given.get(name) is not None and other not in given:
            merged.pop(other, None)
    for name, value in given.items():
        below = merged.get(name)
        merged[name] = over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
