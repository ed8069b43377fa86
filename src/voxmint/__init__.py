"""voxmint makes 3D training volumes for biomedical imaging."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxmint.errors import VoxmintError as VoxmintError
    from voxmint.make import make_ensembles as make_ensembles
    from voxmint.make import make_pairs as make_pairs
    from voxmint.make import make_views as make_views
    from voxmint.make import montage as montage
    from voxmint.make import pack_pairs as pack_pairs
    from voxmint.make import prepare_templates as prepare_templates
    from voxmint.make import procedural_templates as procedural_templates
    from voxmint.make import stored_samples as stored_samples
    from voxmint.pairs.presets import preset as preset
    from voxmint.pairs.recipe import EnsembleRecipe as EnsembleRecipe
    from voxmint.pairs.recipe import PairRecipe as PairRecipe
    from voxmint.pairs.recipe import ViewRecipe as ViewRecipe
    from voxmint.pairs.sampler import EnsembleSampler as EnsembleSampler
    from voxmint.pairs.sampler import PairSampler as PairSampler
    from voxmint.pairs.stages import ViewSampler as ViewSampler
    from voxmint.runs.verify import verify as verify
    from voxmint.sample import Sample as Sample
    from voxmint.sample import Sampler as Sampler
    from voxmint.templates.bank import TemplateBank as TemplateBank

_HOMES = {
    "VoxmintError": "errors",
    "Sample": "sample",
    "Sampler": "sample",
    "PairRecipe": "pairs.recipe",
    "EnsembleRecipe": "pairs.recipe",
    "ViewRecipe": "pairs.recipe",
    "preset": "pairs.presets",
    "PairSampler": "pairs.sampler",
    "EnsembleSampler": "pairs.sampler",
    "ViewSampler": "pairs.stages",
    "TemplateBank": "templates.bank",
    "make_pairs": "make",
    "make_ensembles": "make",
    "make_views": "make",
    "pack_pairs": "make",
    "prepare_templates": "make",
    "procedural_templates": "make",
    "stored_samples": "make",
    "montage": "make",
    "verify": "runs.verify",
}
"""Where each public name lives; loaded on first use, so that importing the package stays quick."""

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("voxmint")
    if name not in _HOMES:
        raise AttributeError(f"module 'voxmint' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"voxmint.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
