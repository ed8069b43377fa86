"""`voxmint instances`: samples around the instances of a materialization table."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from voxmint.cli.common import FLAGS, agreed, say
from voxmint.cli.inputs import Common
from voxmint.cli.instance_flags import sampling_of, split_of, with_flags
from voxmint.cli.recorded import RecipeFile
from voxmint.instances.recipe import InstanceRecipe

app = App(name="instances", help="Samples that teach a network to complete an instance from a few slices.")

Triple = Annotated[str | None, Parameter()]
RecipePath = Annotated[Path | None, Parameter(name="--recipe")]


@app.command
def make(
    common: Common | None = None,
    *,
    out: str,
    count: int | None = None,
    crop: Triple = None,
    crop_nm: Triple = None,
    seeds: Literal["few", "spread"] | None = None,
    scenarios: int | None = None,
    sample_by: Literal["uniform", "stratified", "density"] = "uniform",
    stratify_by: str | None = None,
    box_nm: str | None = None,
    ids: str | None = None,
    split: str | None = None,
    separate: Literal["blocks", "blocks and neurons"] = "blocks and neurons",
    seed: int | None = None,
    workers: int | None = None,
    format: Literal["npy", "hdf5"] = "npy",
    array_axes: Literal["zyx", "xyz"] | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    yes: bool = False,
    price_per_gb: float = 0.0,
    price_per_million_requests: float = 0.0,
    recipe_file: RecipePath = None,
    recipe: Annotated[InstanceRecipe | None, FLAGS] = None,
) -> None:
    """Make samples around instances. Give the same command again to go on after an interruption.

    Parameters
    ----------
    common
        Layers and table.
    out
        Folder, or gs:// or s3:// address.
    count
        Instances to draw from the table; all when left out.
    crop
        Size of the crop in target voxels, as x,y,z.
    crop_nm
        Size of the crop in nm instead.
    seeds
        Published model of which slices are kept.
    scenarios
        Samples per instance.
    sample_by
        Draw rows uniformly, equally from the values of a column, or balanced by local density.
    stratify_by
        That column.
    box_nm
        Only centres in this box, as x0,y0,z0,x1,y1,z1 in nm.
    ids
        Only these ids, separated by commas.
    split
        Names and shares of splits that share no voxel, such as train=0.8,validation=0.2.
    separate
        What splits may not share.
    seed
        Seed of the data set.
    workers
        Worker processes; one a core by default.
    format
        A tree of .npy files, or HDF5.
    array_axes
        Order of the axes of arrays in the files: zyx, or xyz as the published generator writes them.
    dry_run
        Tell instances, chunks, requests, bytes as stored, time, money and disk, and stop.
    overwrite
        Remove the data set that is there, whatever it is, and begin anew; asks first.
    yes
        Agree to that.
    price_per_gb
        What 10**9 bytes read cost, for the dry run.
    price_per_million_requests
        What a million requests cost, for the dry run.
    recipe_file
        YAML file with recipe fields; or another data set's recipe.yaml, whose seed and count then count, too, and with
        which layers and rows are compared. Flags go over it, which is told.
    recipe
        Fields of the recipe.
    """
    from voxmint.make.instances import check_format, differs, make_instances, prepare_instances, shared_chunks
    from voxmint.make.instances.cost import Prices, told
    from voxmint.make.reports import told_rows
    from voxmint.runs.progress import make_progress

    check_format(format, out)
    inputs = (common or Common()).read()
    prices = Prices(price_per_gb, price_per_million_requests)
    given = RecipeFile(recipe_file, "instances")
    chosen = with_flags(given.fields(InstanceRecipe, recipe), crop, crop_nm, seeds, scenarios)
    seed = given.choose("--seed", seed, "seed", 0)
    axes = given.choose("--array-axes", array_axes, "format.axes", "zyx")
    if given.about:
        count = given.choose("--count", count, "rows.count")
    sampling, splits = sampling_of(count, sample_by, stratify_by, box_nm, ids), split_of(split, separate)
    with nullcontext() if dry_run else shared_chunks(out) as shared:
        job = prepare_instances(replace(inputs, shared=shared), chosen, sampling, seed=seed, split=splits)
        print(told_rows(job.report["table"], job.report.get("splits", {}).get("left_out")))
        for line in differs(job, given.about):
            print(line)
        if dry_run:
            print(told(job.demand(prices)))
        results = make_instances(
            job, out, format=format, array_axes=axes, workers=workers, progress=make_progress(), dry_run=dry_run,
            secrets=inputs.secrets, overwrite=agreed(out, overwrite=overwrite, yes=yes),
        )  # fmt: skip
    for name, result in results.items():
        if name:
            print(f"\n{name}")
        say(result, dry_run=dry_run)


@app.command
def check(
    common: Common | None = None,
    *,
    count: int = 48,
    seed: int = 0,
    instances: int | None = None,
    crop: Triple = None,
    crop_nm: Triple = None,
    price_per_gb: float = 0.0,
    price_per_million_requests: float = 0.0,
    recipe_file: RecipePath = None,
    recipe: Annotated[InstanceRecipe | None, FLAGS] = None,
) -> None:
    """Look a few dozen rows up; tell whether units, columns and layers fit, what is absent, and what a run costs.

    Parameters
    ----------
    common
        Layers and table.
    count
        Most rows to look up. All chunks are read that their crops touch.
    seed
        Which rows.
    instances
        Instances of the run whose cost is told; those looked up when left out.
    crop
        Size of the crop in target voxels, as x,y,z.
    crop_nm
        Size of the crop in nm instead.
    price_per_gb
        What 10**9 bytes read cost.
    price_per_million_requests
        What a million requests cost.
    recipe_file
        YAML file with recipe fields, as for `make`.
    recipe
        Fields of the recipe, as for `make`.
    """
    import json
    import sys

    from voxmint.make.instances.checking import check_instances
    from voxmint.make.instances.cost import Prices

    chosen = with_flags(RecipeFile(recipe_file, "instances").fields(InstanceRecipe, recipe), crop, crop_nm, None, None)
    prices = Prices(price_per_gb, price_per_million_requests)
    report = check_instances((common or Common()).read(), chosen, count=count, seed=seed, instances=instances,
                             prices=prices)  # fmt: skip
    print(json.dumps(report, indent=1))
    for name, chunks in report["chunks"].items():
        if chunks["absent"]:
            told = f"{chunks['absent']:,} of {chunks['read']:,} chunks of the {name} layer are absent"
            print(f"voxmint: {told}: {chunks['remedy']}", file=sys.stderr)


@app.command
def phantom(*, out: Path, instances: int = 48, seed: int = 0) -> None:
    """Make an EM-like image, a segmentation with touching, bordering, tiny and missing instances, and their table.

    Parameters
    ----------
    out
        Folder of the two layers and the table.
    instances
        Number of instances.
    seed
        Seed of the phantom.
    """
    from voxmint.phantom.layers import make_phantom

    for name, path in make_phantom(out, instances=instances, seed=seed).items():
        print(f"{name:10}{path}")
