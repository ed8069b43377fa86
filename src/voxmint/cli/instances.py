"""`voxmint instances`: samples around the instances of a materialization table."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App

from voxmint.cli.common import (
    FLAGS,
    INPUT,
    OUTPUT,
    RECIPE_FIELDS,
    RUN,
    DryRun,
    Overwrite,
    RecipePath,
    Seed,
    Workers,
    Yes,
    agreed,
    flag,
    say,
)
from voxmint.cli.inputs import Common
from voxmint.cli.instance_flags import sampling_of, split_of, with_flags
from voxmint.cli.recorded import RecipeFile
from voxmint.instances.recipe import InstanceRecipe

app = App(name="instances", help="Samples that teach a network to complete an instance from a few slices.")

CropVoxels = Annotated[str | None, flag(RECIPE_FIELDS, "Size of the crop in target voxels, as x,y,z.")]
CropNm = Annotated[str | None, flag(RECIPE_FIELDS, "Size of the crop in nm instead, as x,y,z.")]
PricePerGb = Annotated[float, flag(RUN, "What 10**9 bytes read cost, for the plan.")]
PricePerRequests = Annotated[float, flag(RUN, "What a million requests cost, for the plan.")]


@app.command
def make(
    *,
    common: Common | None = None,
    out: Annotated[str, flag(OUTPUT, "Folder, or gs:// or s3:// address.")],
    count: Annotated[int | None, flag(INPUT, "Instances to draw from the table; all when left out.")] = None,
    crop: CropVoxels = None,
    crop_nm: CropNm = None,
    seeds: Annotated[
        Literal["few", "spread"] | None, flag(RECIPE_FIELDS, "Published model of which slices are kept.")
    ] = None,
    scenarios: Annotated[int | None, flag(RECIPE_FIELDS, "Samples per instance.")] = None,
    sample_by: Annotated[
        Literal["uniform", "stratified", "density"],
        flag(INPUT, "Draw rows uniformly, equally from the values of a column, or balanced by local density."),
    ] = "uniform",
    stratify_by: Annotated[str | None, flag(INPUT, "Column whose values are drawn from equally.")] = None,
    box_nm: Annotated[str | None, flag(INPUT, "Only centres in this box, as x0,y0,z0,x1,y1,z1 in nm.")] = None,
    ids: Annotated[str | None, flag(INPUT, "Only these ids, separated by commas.")] = None,
    split: Annotated[
        str | None,
        flag(OUTPUT, "Names and shares of splits that share no voxel, such as train=0.8,validation=0.2."),
    ] = None,
    separate: Annotated[
        Literal["blocks", "blocks and neurons"], flag(OUTPUT, "What splits may not share.")
    ] = "blocks and neurons",
    seed: Seed = None,
    workers: Workers = None,
    format: Annotated[Literal["npy", "hdf5"], flag(OUTPUT, "A tree of .npy files, or HDF5.")] = "npy",
    array_axes: Annotated[
        Literal["zyx", "xyz"] | None,
        flag(
            OUTPUT,
            "Order of the axes of arrays in the files: zyx (the default), or xyz as the published generator "
            "writes them.",
        ),
    ] = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    yes: Yes = False,
    price_per_gb: PricePerGb = 0.0,
    price_per_million_requests: PricePerRequests = 0.0,
    recipe_file: RecipePath = None,
    recipe: Annotated[InstanceRecipe | None, FLAGS] = None,
) -> None:
    """Make samples around instances. Give the same command again to go on after an interruption."""
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
    *,
    common: Common | None = None,
    count: Annotated[int, flag(INPUT, "Most rows to look up. All chunks are read that their crops touch.")] = 48,
    seed: Annotated[int, flag(RUN, "Which rows.")] = 0,
    instances: Annotated[
        int | None, flag(RUN, "Instances of the run whose cost is told; those looked up when left out.")
    ] = None,
    crop: CropVoxels = None,
    crop_nm: CropNm = None,
    price_per_gb: PricePerGb = 0.0,
    price_per_million_requests: PricePerRequests = 0.0,
    recipe_file: RecipePath = None,
    recipe: Annotated[InstanceRecipe | None, FLAGS] = None,
) -> None:
    """Look a few dozen rows up; tell whether units, columns and layers fit, what is absent, and what a run costs."""
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
