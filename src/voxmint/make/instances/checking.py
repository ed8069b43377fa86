"""What is told of table and layers before a run: how they fit, and which chunks a layer lacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from voxmint.errors import ChunkError
from voxmint.instances.draw.sampling import SamplingRecipe, TooFewRowsError
from voxmint.instances.recipe import InstanceRecipe
from voxmint.make.instances import POINTS, Inputs, Job, draw_rows, prepare_instances
from voxmint.make.instances.cost import FREE, Prices
from voxmint.sample import JSON
from voxmint.volumes.box import Box
from voxmint.volumes.kept import ABSENT
from voxmint.volumes.layer import Layer

_SHOWN = 3
_Drawn = TypeVar("_Drawn")


def check_instances(
    inputs: Inputs,
    recipe: InstanceRecipe | None = None,
    *,
    count: int = POINTS,
    seed: int = 0,
    instances: int | None = None,
    prices: Prices = FREE,
) -> JSON:
    """Look up to ``count`` rows up in the target, and read the chunks that their crops touch in both layers.

    Parameters
    ----------
    inputs : Inputs
        Layers and table.
    recipe : InstanceRecipe, optional
        Size of the crops, and which layers are declared sparse.
    count : int
        Most rows.
    seed : int
        Which rows.
    instances : int, optional
        Rows of the run whose reading is planned (``cost``), at most those there are; ``count`` when left out.
    prices : Prices
        Of what is read.

    Returns
    -------
    dict
        JSON-able: the report of `prepare_instances`, and ``chunks``: of each layer how many were read, are absent,
        forbidden or unreadable, and what to do about absent ones; and ``cost``: what reading for a run costs.

    Raises
    ------
    VoxmintError
        As `prepare_instances`.
    """
    recipe = recipe or InstanceRecipe()
    job = _at_most(count, lambda some: prepare_instances(inputs, recipe, some, seed=seed))
    report = {**job.report, "chunks": _chunks(job)}
    if instances is not None:
        table = inputs.instances()
        drawn = _at_most(instances, lambda some: draw_rows(table, some, seed, job.source, job.target))
        return {**report, "cost": replace(job, rows={"": drawn.rows}).demand(prices)}
    return {**report, "cost": job.demand(prices)}


def _at_most(count: int, draw: Callable[[SamplingRecipe], _Drawn]) -> _Drawn:
    """Draw as many rows, or all where there are fewer."""
    try:
        return draw(SamplingRecipe(count=count))
    except TooFewRowsError as error:
        if not error.eligible:
            raise
        return draw(SamplingRecipe(count=error.eligible))


def _chunks(job: Job) -> JSON:
    """Return for ``source`` and ``target`` what became of the chunks that the crops of all rows touch."""
    sampler = job.sampler("")
    frames = [sampler.cutter.frame(row.centre_nm) for row in sampler.rows.instances()]
    declared = job.recipe.to_dict()
    return {
        name: _of_layer(getattr(sampler, name), [getattr(frame, name) for frame in frames], f"--{name}-sparse",
                        declared=declared[f"{name}_sparse"])
        for name in ("source", "target")
    }  # fmt: skip


def _of_layer(layer: Layer, boxes: list[Box], flag: str, *, declared: bool) -> JSON:
    chunks = sorted({chunk for box in boxes if not box.empty for chunk in layer.chunks_of(box)})
    found: dict[str, list[str]] = {"missing": [], "forbidden": [], "unreadable": []}
    for position, cutout in layer.read_many(chunks):
        if isinstance(cutout, ChunkError):
            found[cutout.cause].append(chunks[position].name)
        elif ABSENT in cutout.reads.values():
            found["missing"].append(chunks[position].name)
    report: JSON = {"read": len(chunks), "absent": len(found["missing"])}
    report |= {name: len(found[name]) for name in ("forbidden", "unreadable")}
    if names := sorted(name for names in found.values() for name in names):
        report["such_as"] = names[:_SHOWN]
    if report["absent"]:
        report["remedy"] = (
            f"declared as background by {flag}" if declared
            else f"if absent chunks of this layer mean background, give {flag}; else complete the layer"
        )  # fmt: skip
    return report
