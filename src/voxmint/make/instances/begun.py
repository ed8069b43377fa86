"""A data set of instances that was begun: what the same command means there, and what may still be declared."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

from voxmint.datasets.format import Format, Noting, Output
from voxmint.datasets.ledger import NAME as LEDGER
from voxmint.datasets.ledger import Ledger
from voxmint.datasets.manifest import MANIFEST, RECIPE
from voxmint.errors import PlanError, RecipeError
from voxmint.files import write_atomically
from voxmint.generators import as_meant
from voxmint.instances.cut.extract import is_for_lack_of
from voxmint.instances.recipe import InstanceRecipe
from voxmint.instances.sampler import InstanceSampler
from voxmint.recipe import read_yaml
from voxmint.runs.identity import differences, identity, note
from voxmint.runs.lock import claim
from voxmint.runs.parts import reads_of
from voxmint.runs.shard import apart
from voxmint.sample import JSON
from voxmint.volumes.kept import ABSENT
from voxmint.volumes.opening import layer_from_spec

_LAYERS = ("source", "target")


def as_begun(recipe: InstanceRecipe, output: Output) -> InstanceRecipe:
    """Return a recipe as a data set there was begun with it: fields that did not exist then mean what was done then.

    Fields that were given count as given.
    """
    there = _there(output)
    recorded = there.get("recipe")
    if not isinstance(recorded, dict):
        return recipe
    meant = as_meant(there)["recipe"]
    added = {name: meant[name] for name in meant if name not in recorded and name not in recipe.model_fields_set}
    return recipe.model_copy(update=added)


def undeclared(sampler: InstanceSampler, output: Output) -> InstanceSampler:
    """Return a sampler without the declarations that an unfinished data set there lacks, to plan what is left of it."""
    new = _declared_anew(sampler, output)
    if not new:
        return sampler
    recipe = sampler.recipe.model_copy(update={f"{name}_sparse": False for name in new})
    source, target = (
        layer_from_spec(layer.spec() | {"sparse": False}) if name in new else layer
        for name, layer in zip(_LAYERS, (sampler.source, sampler.target), strict=True)
    )
    return InstanceSampler(recipe, source, target, sampler.rows, sampler.seed)


def declare_sparse(sampler: InstanceSampler, format: Format, output: Output) -> None:
    """Enter that a layer is sparse into the recipe of an unfinished data set that is else the same.

    Nothing that was made so far may have to do with absent chunks of it: then the data set ends up as if it had been
    declared from the start.

    Raises
    ------
    PlanError
        Something has, or the format's files cannot take it.
    """
    if not _declared_anew(sampler, output):
        return
    with claim(output):
        there, new = _there(output), _declared_anew(sampler, output)
        output = replace(output, count=len(sampler), layout=sampler.layout())
        about = there | {"recipe": there["recipe"] | {f"{name}_sparse": True for name in new}}
        if not new or differences(about, identity(sampler, format, output)):
            return  # another data set, as the run is going to say
        _refuse_absent(sampler, output, new)
        output = replace(output, note=note(about))
        if isinstance(format, Noting):
            format.renote(output)
        if output.url is not None and output.place.exists(RECIPE):
            output.place.write(RECIPE, output.note.encode())
        write_atomically(output.directory / RECIPE, [output.note.encode()])


def _there(output: Output) -> JSON:
    """Return what the recipe in a data set's folder says, nothing if there is none or the run will refuse it."""
    path = output.directory / RECIPE
    try:
        return read_yaml(path) if path.is_file() else {}
    except RecipeError:
        return {}


def _declared_anew(sampler: InstanceSampler, output: Output) -> list[str]:
    """Return which layers are sparse that an unfinished data set's recipe says are not."""
    recorded = _there(output).get("recipe")
    if not isinstance(recorded, dict) or (output.directory / MANIFEST).exists():
        return []
    fields = sampler.recipe.to_dict()
    return [name for name in _LAYERS if fields[f"{name}_sparse"] and recorded.get(f"{name}_sparse") is False]


def _refuse_absent(sampler: InstanceSampler, output: Output, new: list[str]) -> None:
    """Raise `PlanError` if a sample was made, or a row rejected, on account of an absent chunk of these layers."""
    layers = {name: sampler.source.url if name == "source" else sampler.target.url for name in new}
    ledger = Ledger(output.state / LEDGER)
    for entry in chain(ledger.everything(), apart(output, ledger)):
        absent = [part for part, digest in reads_of(entry).items() if digest == ABSENT and part.split()[0] in new]
        about = entry.get("rejected") or entry["sample"]
        lacking = [url for url in layers.values() if is_for_lack_of(str(about.get("reason", "")), url)]
        if absent or lacking:
            raise PlanError("too late to declare the layer sparse: absent chunks of it decided samples already",
                            where=output.where, expected=" and ".join(f"--{name}-sparse" for name in new)
                            + " from the start, or no sample or rejection on account of an absent chunk",
                            got=f"sample {about['index']} ({about['key']}): {(absent or lacking)[0]}",
                            remedy="choose another directory, or the recipe that this one was begun with",
                            )  # fmt: skip
