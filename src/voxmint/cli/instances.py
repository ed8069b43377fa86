"""`voxmint instances`: samples around the instances of a materialization table."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from voxmint.cli.common import FLAGS, say
from voxmint.cli.instance_flags import sampling_of, split_of, with_flags
from voxmint.cli.recorded import RecipeFile
from voxmint.instances.recipe import InstanceRecipe
from voxmint.retry import PATIENCE_S, checked_patience

app = App(name="instances", help="Samples that teach a network to complete an instance from a few slices.")

Triple = Annotated[str | None, Parameter()]
RecipePath = Annotated[Path | None, Parameter(name="--recipe")]


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """What `make` and `check` both need.

    Parameters
    ----------
    source
        Image layer: file://, gs://, s3://, http(s)://, or a path (precomputed, zarr, N5, HDF5, NIfTI, TIFF, npy).
    target
        Segmentation layer, likewise.
    table
        Materialization table: CSV, Parquet or Feather; a file, folder or glob.
    table_voxel_size
        Size in nm of one unit of the table's coordinates, as x,y,z. Never guessed.
    columns
        Preset of column names.
    axes
        Order of the three numbers of a point.
    reader
        What reads the layers.
    secrets
        JSON file with credentials, for layers and output, instead of those in ~/.cloudvolume/secrets.
    source_dataset, target_dataset
        Dataset within an HDF5 file or zarr group.
    source_voxel_size, target_voxel_size
        Voxel size in nm as x,y,z, for layers that carry none.
    patience
        Seconds after which a chunk, or a layer's metadata, count as unreadable, all attempts and pauses together.
    """

    source: str
    target: str
    table: str
    table_voxel_size: str
    columns: Literal["default", "h01", "cave", "flywire", "neuprint"] = "default"
    axes: Literal["xyz", "xzy", "yxz", "yzx", "zxy", "zyx"] = "xyz"
    reader: Literal["auto", "tensorstore", "cloudvolume"] = "auto"
    secrets: Path | None = None
    source_dataset: str | None = None
    target_dataset: str | None = None
    source_voxel_size: str | None = None
    target_voxel_size: str | None = None
    patience: float = PATIENCE_S

    def inputs(self) -> Any:
        """Return layers and table as the library takes them."""
        from voxmint.instances.table.columns import ColumnMap
        from voxmint.make.instances import Inputs, crop_of

        size = crop_of(self.table_voxel_size, "--table-voxel-size")
        options: dict[str, dict[str, Any]] = {"source": {}, "target": {}}
        for name, options_of in options.items():
            if (dataset := getattr(self, f"{name}_dataset")) is not None:
                options_of["dataset"] = dataset
            if (text := getattr(self, f"{name}_voxel_size")) is not None:
                options_of["voxel_size_nm"] = crop_of(text, f"--{name}-voxel-size")
        columns = ColumnMap(voxel_size_nm=size, preset=self.columns, axes=self.axes)
        return Inputs(self.source, self.target, self.table, columns, self.reader, self.secrets, options,
                      patience=checked_patience(self.patience))  # fmt: skip


@app.command
def make(
    common: Common,
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
        Tell instances, chunks, requests, bytes and disk, and stop.
    recipe_file
        YAML file with recipe fields; or another data set's recipe.yaml, whose seed and count then count, too, and with
        which layers and rows are compared. Flags go over it, which is told.
    recipe
        Fields of the recipe.
    """
    from voxmint.make.instances import check_format, differs, make_instances, prepare_instances, shared_chunks
    from voxmint.make.reports import told_rows
    from voxmint.runs.progress import make_progress

    check_format(format, out)
    given = RecipeFile(recipe_file, "instances")
    chosen = with_flags(given.fields(InstanceRecipe, recipe), crop, crop_nm, seeds, scenarios)
    seed = given.choose("--seed", seed, "seed", 0)
    axes = given.choose("--array-axes", array_axes, "format.axes", "zyx")
    if given.about:
        count = given.choose("--count", count, "rows.count")
    sampling, splits = sampling_of(count, sample_by, stratify_by, box_nm, ids), split_of(split, separate)
    with nullcontext() if dry_run else shared_chunks(out) as shared:
        job = prepare_instances(replace(common.inputs(), shared=shared), chosen, sampling, seed=seed, split=splits)
        print(told_rows(job.report["table"], job.report.get("splits", {}).get("left_out")))
        for line in differs(job, given.about):
            print(line)
        if dry_run:
            demand = job.demand()
            print(f"instances {demand['instances']:,}\nchunks    {demand['chunks']:,} distinct, one request each\n"
                  f"to read   {demand['bytes'] / 1e6:,.1f} MB unpacked at most")  # fmt: skip
        results = make_instances(job, out, format=format, array_axes=axes, workers=workers, progress=make_progress(),
                                 dry_run=dry_run, secrets=common.secrets)  # fmt: skip
    for name, result in results.items():
        if name:
            print(f"\n{name}")
        say(result, dry_run=dry_run)


@app.command
def check(
    common: Common,
    *,
    count: int = 48,
    seed: int = 0,
    crop: Triple = None,
    crop_nm: Triple = None,
    recipe_file: RecipePath = None,
    recipe: Annotated[InstanceRecipe | None, FLAGS] = None,
) -> None:
    """Look a few dozen rows up; tell whether units, columns and layers fit together, and whether chunks are absent.

    Parameters
    ----------
    common
        Layers and table.
    count
        Most rows to look up. All chunks are read that their crops touch.
    seed
        Which rows.
    crop
        Size of the crop in target voxels, as x,y,z.
    crop_nm
        Size of the crop in nm instead.
    recipe_file
        YAML file with recipe fields, as for `make`.
    recipe
        Fields of the recipe, as for `make`.
    """
    import json
    import sys

    from voxmint.make.checking import check_instances

    chosen = with_flags(RecipeFile(recipe_file, "instances").fields(InstanceRecipe, recipe), crop, crop_nm, None, None)
    report = check_instances(common.inputs(), chosen, count=count, seed=seed)
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
