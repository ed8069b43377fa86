"""Make training data for depth-wise auto-segmentation. Edit the block below, then run this file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from voxmint.cli.signals import stoppable
from voxmint.cli.told import told
from voxmint.errors import RecipeError

# ---- configuration: each can also be set by an environment variable of the same name --------------------------------
NUMBER_OF_INSTANCES = 200
SCENARIOS = 1  # samples per instance, which differ in the slices kept
SOURCE_URL = "gs://h01-release/data/20210601/4nm_raw"
TARGET_URL = "gs://h01-release/data/20210729/c3/synapses/whole_ei_onlyvol"
SECRETS = ""  # JSON file with credentials; empty for ~/.cloudvolume/secrets or public buckets
TABLE = "materialization.csv"
TABLE_PRESET = "default"  # default, h01, cave, flywire or neuprint
TABLE_VOXEL_SIZE_NM = "8,8,33"  # of the table's coordinates
CROP_VX = "128,128,16"  # x, y, z in target voxels
ARRAY_AXES = "xyz"  # order of the axes of arrays, as published; or zyx
SOURCE_SPARSE = False  # absent chunks of the source are 0
TARGET_SPARSE = False  # absent chunks of the target are background
SEED = 0
WORKERS = 0  # 0 for one a processor core
LOCAL_RUN = True  # write to LOCAL_DIRECTORY; otherwise to BUCKET
LOCAL_DIRECTORY = "synapse_data"
BUCKET = "gs://my-bucket/synapse_data"
# ----------------------------------------------------------------------------------------------------------------------

_ON, _OFF = ("true", "1", "yes"), ("false", "0", "no")


def setting(name: str) -> str:
    """Return a value of the block above, or of the environment."""
    return os.environ.get(name, str(globals()[name]))


def numbers(name: str, kind: type[int] | type[float]) -> tuple[float, ...]:
    """Return a setting of numbers separated by commas."""
    try:
        return tuple(kind(part) for part in setting(name).split(","))
    except ValueError:
        expected = "a whole number" if kind is int else "numbers"
        raise RecipeError("this setting is no number", where=name, expected=f"{expected}, with commas between several",
                          got=repr(setting(name)), remedy="correct it") from None  # fmt: skip


def number(name: str) -> int:
    """Return a setting of one whole number."""
    first, *others = numbers(name, int)
    if others:
        raise RecipeError("this setting is one number", where=name, got=repr(setting(name)), remedy="correct it")
    return int(first)


def size(name: str, kind: type[int] | type[float]) -> tuple[float, float, float]:
    """Return a setting of three positive numbers."""
    found = numbers(name, kind)
    if len(found) != 3 or not all(0 < value < float("inf") for value in found):
        raise RecipeError("this setting is no size", where=name, expected="x,y,z, all positive",
                          got=repr(setting(name)), remedy="correct it")  # fmt: skip
    return found[0], found[1], found[2]


def switch(name: str) -> bool:
    """Return a setting that is on or off."""
    value = setting(name).lower()
    if value not in (*_ON, *_OFF):
        raise RecipeError("this setting is on or off", where=name, expected=f"one of {', '.join((*_ON, *_OFF))}",
                          got=repr(setting(name)), remedy="correct it")  # fmt: skip
    return value in _ON


def main() -> None:
    """Select instances, cut them out, keep seed slices, and store the samples."""
    from dataclasses import replace

    from voxmint.datasets.format import checked_axes
    from voxmint.instances.draw.sampling import SamplingRecipe
    from voxmint.instances.recipe import InstanceRecipe
    from voxmint.instances.table.columns import ColumnMap
    from voxmint.make.instances import Inputs, make_instances, prepare_instances, shared_chunks
    from voxmint.make.reports import told_rows
    from voxmint.runs.progress import make_progress

    columns = ColumnMap(voxel_size_nm=size("TABLE_VOXEL_SIZE_NM", float), preset=setting("TABLE_PRESET"))
    secrets = Path(setting("SECRETS")) if setting("SECRETS") else None
    inputs = Inputs(setting("SOURCE_URL"), setting("TARGET_URL"), setting("TABLE"), columns, secrets=secrets)
    sparse = {"source_sparse": switch("SOURCE_SPARSE"), "target_sparse": switch("TARGET_SPARSE")}
    recipe = InstanceRecipe(crop_vx=size("CROP_VX", int), scenarios=number("SCENARIOS"), **sparse)
    sampling = SamplingRecipe(count=number("NUMBER_OF_INSTANCES"))
    axes = checked_axes(setting("ARRAY_AXES"))
    out = setting("LOCAL_DIRECTORY" if switch("LOCAL_RUN") else "BUCKET")
    workers, seed = number("WORKERS"), number("SEED")
    with shared_chunks(out) as shared:
        job = prepare_instances(replace(inputs, shared=shared), recipe, sampling, seed=seed)
        print(told_rows(job.report["table"]))
        result = make_instances(job, out, array_axes=axes, workers=workers or None,
                                progress=make_progress(), secrets=secrets)[""]  # fmt: skip
    print(result.plan)
    if result.rejected:
        print(f"rejected  {result.rejected:,}, with the reasons in rejected.csv")


if __name__ == "__main__":
    stoppable()
    sys.exit(told(main))
