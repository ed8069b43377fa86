"""The table of generators: the one place that knows what makes samples. A new one is a folder and a line here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from voxmint.errors import InputError
from voxmint.sample import JSON, Sampler


@dataclass(frozen=True)
class Generator:
    """Where a generator lives; loaded when it is used.

    Attributes
    ----------
    sampler : str
        ``module:Class`` of its `Sampler`.
    picture : str
        ``module:function`` that draws samples of a stored data set.
    """

    sampler: str
    picture: str


_PAIRS, _INSTANCES, _BANK = (f"voxmint.inspect.pictures:draw_{name}" for name in ("pairs", "instances", "bank"))
GENERATORS: Mapping[str, Generator] = {
    "pairs": Generator("voxmint.pairs.sampler:PairSampler", _PAIRS),
    "pairs.ensembles": Generator("voxmint.pairs.sampler:EnsembleSampler", _PAIRS),
    "pairs.views": Generator("voxmint.pairs.stages:ViewSampler", _PAIRS),
    "pairs.pack": Generator("voxmint.pairs.stages:PackSampler", _PAIRS),
    "instances": Generator("voxmint.instances.sampler:InstanceSampler", _INSTANCES),
    "templates.totalsegmentator": Generator("voxmint.templates.totalsegmentator:TotalSegmentatorSource", _BANK),
    "templates.folder": Generator("voxmint.templates.folders:FolderSource", _BANK),
    "templates.procedural": Generator("voxmint.templates.procedural.source:ProceduralSource", _BANK),
}
"""By the name that a definition records. Only these are ever loaded for a data set: no code from data."""


_OF_VERSION_0_1 = {"templates": "templates/templates.bank", "rows": "rows.npy"}
"""Where inputs lay in a data set's own folder when definitions did not say so."""
_BEFORE: Mapping[str, JSON] = {"instances": {"target_downsampling": "any"}}
"""Of each generator the fields that recipes did not always have, and what was done when they had not."""


def generator_name(definition: JSON) -> object:
    """Return the name under which a definition's generator stands in `GENERATORS`, if it stands there."""
    name = definition.get("generator")
    if name is None and isinstance(definition.get("templates"), str):  # banks of version 0.1
        return f"templates.{definition['templates']}"
    return name


def generator_of(definition: JSON, where: str | Path) -> Generator:
    """Return what makes the samples of a definition.

    Raises
    ------
    InputError
        It names no known generator.
    """
    name = generator_name(definition)
    if not isinstance(name, str) or name not in GENERATORS:
        raise InputError("nothing is known that makes this data set", where=where,
                         expected=f"generator: {', '.join(GENERATORS)}", got=name,
                         remedy="use the version that made it, or make it again with its own command")  # fmt: skip
    return GENERATORS[name]


def as_meant(definition: JSON) -> JSON:
    """Return a definition that was recorded with those fields of its recipe that did not exist then."""
    name, recipe = definition.get("generator"), definition.get("recipe")
    if not isinstance(name, str) or name not in _BEFORE or not isinstance(recipe, dict):
        return definition
    return definition | {"recipe": _BEFORE[name] | recipe}


def open_sampler(definition: JSON, access: JSON, where: str | Path = "") -> Sampler:
    """Open the sampler of a definition that was recorded; ``where`` names its place in errors."""
    definition = as_meant(definition)
    return cast(type[Sampler], load(generator_of(definition, where).sampler)).open(definition, access)


def remote(sampler: Sampler) -> JSON:
    """Return what another process of this command opens the sampler from; holds the names of secrets' files."""
    cls = type(sampler)
    return {"class": f"{cls.__module__}:{cls.__qualname__}", "definition": sampler.definition(),
            "access": sampler.access()}  # fmt: skip


def open_remote(job: JSON) -> Sampler:
    """Open the sampler that `remote` described, of a class that may stand in no table."""
    return cast(type[Sampler], load(str(job["class"]))).open(job["definition"], job["access"])


def load(name: str) -> Any:
    """Return the thing called ``module:name``."""
    module, _, inner = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in inner.split("."):
        found = getattr(found, part)
    return found


def addresses_within(definition: JSON, folder: Path) -> JSON:
    """Return a definition in which inputs that lie in ``folder`` are named relative to it: both may move together."""

    def within(address: str) -> str:
        path = Path(address)
        return path.relative_to(folder).as_posix() if path.is_absolute() and path.is_relative_to(folder) else address

    return _with_addresses(definition, within)


def addresses_from(definition: JSON, folder: Path) -> JSON:
    """Return the definition that `addresses_within` was given, as seen from where the folder is now."""
    definition = dict(definition)
    for name, place in _OF_VERSION_0_1.items():
        about = definition.get(name)
        if isinstance(about, dict) and "address" not in about and (folder / place).is_file():
            definition[name] = about | {"address": place}
    return _with_addresses(definition, lambda address: address if "://" in address else str(folder / address))


def _with_addresses(definition: JSON, change: Any) -> JSON:
    return {
        name: value | {"address": change(value["address"])}
        if isinstance(value, dict) and isinstance(value.get("address"), str)
        else value
        for name, value in definition.items()
    }
