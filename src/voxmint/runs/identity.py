"""What a data set is, in the words of its `recipe.yaml`, and in what two of them differ."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from voxmint.datasets.format import Format, Output
from voxmint.errors import PlanError
from voxmint.generators import addresses_within, as_meant
from voxmint.recipe import write_yaml
from voxmint.sample import JSON, Sampler

_SAME_SAMPLES = frozenset({"0.1.0", "0.2.0"})
"""Versions that make the same bytes from the same recipe."""
_FIRST = "0.1.0"
"""The version whose recipes say less of the inputs."""
UNKNOWN = "known when it is made"
"""Stands in a definition for what is not known before an input is made; not compared."""
_NOT_COMPARED = frozenset({"address", "views", "reader", "made_from", "sform"})
"""What tells where an input is, not what is in it: that is told by the fingerprint beside it. And the code of an
affine, which nobody chooses: a data set keeps the one it was begun with."""


def identity(sampler: Sampler, format: Format, output: Output) -> JSON:
    """Return all that defines a data set, in the order of ``recipe.yaml``."""
    arrays = {name: {"shape": list(shape), "dtype": dtype} for name, (shape, dtype) in sampler.layout().items()}
    about = {"voxmint": version("voxmint"), **addresses_within(sampler.definition(), output.directory)}
    return {**about, "count": output.count, "arrays": arrays, "format": format.spec()}


def note(about: JSON) -> str:
    """Return the text of a recipe."""
    return write_yaml(about)


def differences(there: JSON, asked: JSON) -> list[str]:
    """Return ``field: value there, value asked`` for every field in which two recipes make different data sets."""
    there, asked = dict(as_meant(there)), dict(asked)
    first = there.get("voxmint") == _FIRST
    if {there.get("voxmint"), asked.get("voxmint")} <= _SAME_SAMPLES:
        there.pop("voxmint", None)
        asked.pop("voxmint", None)
    return list(_differences(there, asked, "", less=first))


def refuse_another(there: JSON, asked: JSON, output: Output) -> None:
    """Raise `PlanError` if a directory holds another data set than the one that is asked for."""
    different = differences(there, asked)
    if different:
        more = f" (and {len(different) - 8} more)" if len(different) > 8 else ""
        raise PlanError("the directory holds another data set", where=output.where,
                        expected="the same recipe, inputs, count and format", got="; ".join(different[:8]) + more,
                        remedy="choose another directory, the same recipe and inputs (of pairs a larger --count adds "
                               "more), or --overwrite, which removes what is there")  # fmt: skip


def _differences(there: Any, asked: Any, name: str, *, less: bool) -> Iterator[str]:
    """Yield differences; ``less`` if what is there may lack fields, since its version did not know them."""
    if isinstance(there, dict) and isinstance(asked, dict):
        less = less and name != "recipe"  # a field that a recipe leaves out has its default
        for key in [*there, *(key for key in asked if key not in there and not less)]:
            if key in _NOT_COMPARED or (less and key == "root"):
                continue
            below = f"{name}.{key}" if name else str(key)
            yield from _differences(there.get(key), asked.get(key), below, less=less)
    elif there != asked and asked != UNKNOWN:
        yield f"{name}: {there!r} there, {asked!r} asked"
