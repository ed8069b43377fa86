"""Data sets of samples around annotated instances."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxmint.datasets.format import Format, Output
from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.datasets.npy import NpyFormat
from voxmint.errors import RecipeError
from voxmint.instances.draw.locate import check_overlap, check_table
from voxmint.instances.draw.sampling import Draw, SamplingRecipe, TooFewRowsError, draw_instances
from voxmint.instances.draw.settle import settled
from voxmint.instances.draw.splits import SplitRecipe, assign_splits
from voxmint.instances.recipe import InstanceRecipe
from voxmint.instances.sampler import InstanceSampler
from voxmint.instances.table.spool import chosen_rows
from voxmint.instances.table.table import InstanceTable, Rows
from voxmint.make.common import checked_seed
from voxmint.make.instances.begun import as_begun, declare_sparse, undeclared
from voxmint.make.instances.cost import FREE, Prices, cost_of
from voxmint.make.instances.inputs import Inputs as Inputs
from voxmint.make.instances.inputs import crop_of as crop_of
from voxmint.make.reports import reports_of_instances
from voxmint.runs.execute import RunResult, execute
from voxmint.runs.progress import Progress
from voxmint.sample import JSON
from voxmint.stores.secrets import Secrets, check_bucket_address
from voxmint.volumes.identity import differences
from voxmint.volumes.layer import Layer
from voxmint.volumes.shared_chunks import folder_for_chunks

POINTS = 48
"""Rows looked up anywhere, should too few lie in the target."""


@dataclass(frozen=True)
class Job:
    """Instances drawn and checked, ready to be made.

    Attributes
    ----------
    recipe : InstanceRecipe
        With the choice of the instance settled.
    source, target : Layer
        Opened layers.
    rows : dict of str to Rows
        Rows by the name of their split; ``""`` without splits. They lie in temporary files.
    report : dict
        JSON-able: how rows were drawn, checked and split.
    seed : int
        Seed of the data set.
    """

    recipe: InstanceRecipe
    source: Layer
    target: Layer
    rows: dict[str, Rows]
    report: JSON
    seed: int

    def sampler(self, split: str) -> InstanceSampler:
        """Return the sampler of a split."""
        return InstanceSampler(self.recipe, self.source, self.target, self.rows[split], self.seed)

    def demand(self, prices: Prices = FREE) -> JSON:
        """Return what reading costs; see `voxmint.make.instances.cost.cost_of`."""
        return cost_of([self.sampler(split) for split in self.rows], prices)


def shared_chunks(out: str | Path) -> AbstractContextManager[Path]:
    """Give a folder for `Inputs.shared`, beside the run's state, and remove it at the end of the block.

    `prepare_instances` and `make_instances` within one block ask for each chunk of a remote layer once, in whichever
    process it is needed.
    """
    return folder_for_chunks(_output(out, "").state)


def prepare_instances(
    inputs: Inputs,
    recipe: InstanceRecipe,
    sampling: SamplingRecipe,
    *,
    seed: int = 0,
    split: SplitRecipe | None = None,
) -> Job:
    """Draw instances from the table and check them against the layers; makes nothing.

    Parameters
    ----------
    inputs : Inputs
        Layers and table.
    recipe : InstanceRecipe
        How samples are made.
    sampling : SamplingRecipe
        How many rows are drawn, and how.
    seed : int
        Seed of the data set.
    split : SplitRecipe, optional
        Splits that share no voxel (nor neuron).

    Raises
    ------
    InputError
        The layers do not overlap, the table's coordinates miss the target, too few rows, or an empty split.
    """
    seed = checked_seed(seed)
    source, target = inputs.layers(recipe)
    report: JSON = {"overlap": check_overlap(source, target)}
    table = inputs.instances()
    size = table.voxel_size_nm
    draw = draw_rows(table, sampling, seed, source, target)
    report["table"] = {**draw.report, **({"read": table.fetched.about} if table.fetched else {})}
    report["units"] = check_table(draw.rows, target, size, source=source)
    recipe = settled(recipe, target, draw.rows)
    rows = {"": draw.rows}
    if split is not None:
        crops = InstanceSampler(recipe, source, target, draw.rows, seed).crops_nm()
        splits = assign_splits(draw.rows, crops, split, seed)
        report["splits"] = splits.report
        of = np.array([name or "" for name in splits.names])
        rows = {name: chosen_rows(draw.rows, of == name) for name in split.shares}
    return Job(recipe, source, target, rows, report, seed)


def differs(job: Job, about: JSON) -> Iterator[str]:
    """Yield what of a job's inputs is another than the recipe of a data set says."""
    now = job.sampler(next(iter(job.rows))).definition() if about else {}
    for name in ("source", "target"):
        for part, there, here in differences(about.get(name, {}), now.get(name, {})):
            yield f"{name:9} another layer than the recipe's: {part} {here}, where it has {there}"
    if about and about["rows"]["fingerprint"] != now["rows"]["fingerprint"]:
        yield "rows      other rows than the recipe's: the table, the seed or the count is another"


def draw_rows(table: InstanceTable, sampling: SamplingRecipe, seed: int, source: Layer, target: Layer) -> Draw:
    """Draw rows that lie in the target; where there are too few, say so unless another unit explains it."""
    x, y, z = (tuple(map(float, limits)) for limits in zip(*target.bounds.nm(target.voxel_size_nm), strict=True))
    inside = {"target volume": ((x[0], y[0], z[0]), (x[1], y[1], z[1]))}
    try:
        return draw_instances(table, sampling, seed, inside)
    except TooFewRowsError as error:
        if error.rows:
            some = SamplingRecipe(count=min(POINTS, error.rows), without_point=sampling.without_point)
            anywhere = draw_instances(table, some, seed).rows
            check_table(
                anywhere, target, table.voxel_size_nm, source=source, minimum_hit_rate=0.0
            )  # refuses if another fits better
        raise


def make_instances(
    job: Job,
    out: str | Path,
    *,
    format: str = "npy",
    array_axes: str = "zyx",
    workers: int | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
    secrets: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, RunResult]:
    """Make the samples of a job, each split in a folder of its name; rerun to go on after an interruption.

    Parameters
    ----------
    job : Job
        As `prepare_instances` returns it.
    out : path or URL
        Folder, or ``gs://`` or ``s3://`` address (npy format only).
    format : {"npy", "hdf5"}
        Format of the data set.
    array_axes : {"zyx", "xyz"}
        Order of the axes of arrays in the files. Whatever reads them through the library sees (z, y, x).
    workers, progress, dry_run
        As for `voxmint.runs.execute.execute`.
    overwrite : bool
        As for `voxmint.runs.execute.execute`, each split in its folder.
    secrets : path, optional
        JSON file of credentials; used for ``out`` if it holds some of its kind. Nothing of it is recorded.

    Returns
    -------
    dict of str to RunResult
        By split.
    """
    results = {}
    for split in job.rows:
        output = _output(out, split, secrets)
        recipe = job.recipe if overwrite else as_begun(job.recipe, output)
        sampler = InstanceSampler(recipe, job.source, job.target, job.rows[split], job.seed)
        made = _format_of(format, recipe.scenarios, array_axes)
        if dry_run and not overwrite:
            sampler = undeclared(sampler, output)
        elif not overwrite:
            declare_sparse(sampler, made, output)
        results[split] = execute(sampler, made, output, workers=workers, progress=progress, dry_run=dry_run,
                                 also=reports_of_instances(output, sampler, job.report),
                                 overwrite=overwrite)  # fmt: skip
    return results


def check_format(format: str, out: str | Path) -> None:
    """Raise `RecipeError` or `PlanError` if no such format can be written to a place; connects to nothing."""
    made, scheme = _format_of(format, 1), str(out).partition("://")[0]
    if isinstance(made, Hdf5Format) and scheme not in (str(out), "file"):
        made.check(Output(Path(), 1, {}, url=str(out)))


def _format_of(format: str, scenarios: int, array_axes: str = "zyx") -> Format:
    if format == "npy":
        return NpyFormat(scenarios=scenarios, axes=array_axes)
    if format != "hdf5":
        raise RecipeError("unknown format", where="--format", expected="npy or hdf5", got=format)
    return Hdf5Format(axes=array_axes)


def _output(out: str | Path, split: str, secrets: str | Path | None = None) -> Output:
    """Return where a split goes; the credentials are used for a bucket if they are of its kind."""
    check_bucket_address(str(out))
    address = f"{str(out).rstrip('/')}/{split}".rstrip("/") if split else str(out)
    if secrets is None or "://" not in address:
        return Output.at(address)
    # a file may well be for the layers alone: the token of a CAVE, say, where samples go to a bucket
    given = Secrets.load(secrets)
    return Output.at(address, given.path if given.opens(address.partition("://")[0]) else None)
