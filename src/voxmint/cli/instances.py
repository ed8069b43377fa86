"""`voxmint instances`: samples around the instances of a materialization table."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from voxmint.cli.common import FLAGS, say
from voxmint.cli.inputs import Common
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
    dry_run: bool = False,
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
    dry_run
        Tell instances, chunks, requests, bytes as stored, time, money and disk, and stop.
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
    from voxmint.make.cost import Prices, told
    from voxmint.make.instances import check_format, differs, make_instances, prepare_instances, shared_chunks
    from voxmint.runs.progress import make_progress

    check_format(format, out)
    inputs = (common or Common()).read()
    prices = Prices(price_per_gb, price_per_million_requests)
    given = RecipeFile(recipe_file, "instances")
    chosen = _with_flags(given.fields(InstanceRecipe, recipe), crop, crop_nm, seeds, scenarios)
    seed = given.choose("--seed", seed, "seed", 0)
    if given.about:
        count = given.choose("--count", count, "rows.count")
    sampling, splits = _sampling(count, sample_by, stratify_by, box_nm, ids), _split(split, separate)
    with nullcontext() if dry_run else shared_chunks(out) as shared:
        job = prepare_instances(replace(inputs, shared=shared), chosen, sampling, seed=seed, split=splits)
        print(_told(job.report))
        for line in differs(job, given.about):
            print(line)
        if dry_run:
            print(told(job.demand(prices)))
        results = make_instances(job, out, format=format, workers=workers, progress=make_progress(), dry_run=dry_run,
                                 secrets=inputs.secrets)  # fmt: skip
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
) -> None:
    """Look a few dozen rows up in the target; tell whether units, columns and layers fit, and what a run costs.

    Parameters
    ----------
    common
        Layers and table.
    count
        Most rows to look up.
    seed
        Which rows.
    instances
        Instances of the run whose cost is told; those looked up when left out.
    crop
        Size of the run's crop in target voxels, as x,y,z.
    crop_nm
        Size of the run's crop in nm instead.
    price_per_gb
        What 10**9 bytes read cost.
    price_per_million_requests
        What a million requests cost.
    """
    import json

    from voxmint.make.cost import Prices
    from voxmint.make.instances import check_instances

    inputs, recipe = (common or Common()).read(), _with_flags(InstanceRecipe(), crop, crop_nm, None, None)
    prices = Prices(price_per_gb, price_per_million_requests)
    report = check_instances(inputs, count=count, seed=seed, recipe=recipe, instances=instances, prices=prices)
    print(json.dumps(report, indent=1))


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


def _told(report: dict[str, Any]) -> str:
    """Say how many rows of the table are used, and why others are not: none is left out in silence."""
    table = report["table"]
    left_out = table["dropped"] | report.get("splits", {}).get("left_out", {})
    why = "".join(f", {number:,} {reason}" for reason, number in left_out.items() if number)
    return f"rows      {table['rows']:,} in the table, {table['drawn']:,} drawn{why}"


def _with_flags(
    recipe: InstanceRecipe, crop: str | None, crop_nm: str | None, seeds: str | None, scenarios: int | None
) -> InstanceRecipe:
    """Return the recipe with the short flags over it."""
    from voxmint.errors import RecipeError
    from voxmint.make.instances import crop_of

    values = recipe.to_dict()
    if crop is not None and crop_nm is not None:
        raise RecipeError("two sizes of the crop", where="--crop, --crop-nm", remedy="give one of them")
    if crop is not None:
        size = crop_of(crop, "--crop")
        if any(n != int(n) for n in size):
            raise RecipeError("voxels are whole", where="--crop", got=crop, remedy="use --crop-nm for lengths")
        values |= {"crop_vx": [int(n) for n in size], "crop_nm": None}
    if crop_nm is not None:
        values |= {"crop_nm": list(crop_of(crop_nm, "--crop-nm")), "crop_vx": None}
    if seeds is not None:
        values["seeds"] = {**values["seeds"], "model": seeds}
    if scenarios is not None:
        values["scenarios"] = scenarios
    return InstanceRecipe.from_dict(values)


def _sampling(count: int | None, method: str, column: str | None, box_nm: str | None, ids: str | None) -> Any:
    from voxmint.errors import RecipeError
    from voxmint.instances.draw.sampling import SamplingRecipe
    from voxmint.make.instances import crop_of

    values: dict[str, Any] = {"count": count, "method": "stratified" if column else method, "stratify_by": column}
    if box_nm is not None:
        parts = box_nm.split(",")
        if len(parts) != 6:
            raise RecipeError("not six numbers", where="--box-nm", expected="x0,y0,z0,x1,y1,z1 in nm", got=box_nm)
        values["box_nm"] = [crop_of(",".join(half), "--box-nm") for half in (parts[:3], parts[3:])]
    if ids is not None:
        try:
            values["ids"] = [int(part) for part in ids.split(",")]
        except ValueError:
            raise RecipeError("not whole numbers", where="--ids", got=ids) from None
    return SamplingRecipe.from_dict(values)


def _split(text: str | None, separate: str) -> Any:
    from voxmint.errors import RecipeError
    from voxmint.instances.draw.splits import SplitRecipe

    if text is None:
        return None
    try:
        shares = {name: float(share) for name, share in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise RecipeError("not names with shares", where="--split", expected="train=0.8,validation=0.2",
                          got=text) from None  # fmt: skip
    return SplitRecipe.from_dict({"shares": shares, "separate": separate})
