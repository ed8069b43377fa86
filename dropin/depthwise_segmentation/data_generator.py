"""Building blocks of the depth-wise segmentation data, each a thin call into voxmint.

Boxes and points are (x, y, z); arrays made for training are (z, y, x).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from voxmint.inspect.gallery import instance_slices
from voxmint.inspect.montage import write_montage
from voxmint.instances.cut.seeds import keep_slices
from voxmint.instances.draw.sampling import SamplingRecipe, draw_instances
from voxmint.instances.recipe import InstanceRecipe, SeedRecipe
from voxmint.instances.sampler import InstanceSampler
from voxmint.instances.table.columns import ColumnMap
from voxmint.instances.table.table import Instance, InstanceTable
from voxmint.make.instances import Inputs, make_instances, prepare_instances, shared_chunks
from voxmint.randomness import Stream
from voxmint.runs.execute import RunResult
from voxmint.runs.progress import make_progress
from voxmint.sample import Sample
from voxmint.stores.place import Place
from voxmint.volumes.box import Box, box_around_nm
from voxmint.volumes.layer import Cutout, Layer
from voxmint.volumes.opening import open_layer

Size = tuple[float, float, float]


def select_random_instances(table: str | Path, voxel_size_nm: Size, count: int, seed: int = 0) -> list[Instance]:
    """Draw ``count`` instances of a materialization table, reproducibly and without loading it whole."""
    columns = ColumnMap(voxel_size_nm=voxel_size_nm)
    return draw_instances(InstanceTable(table, columns), SamplingRecipe(count=count), seed).rows.instances()


def connect_to_volumes(source_url: str, target_url: str, secrets: str | Path | None = None) -> tuple[Layer, Layer]:
    """Open source and target layer."""
    return open_layer(source_url, secrets=secrets), open_layer(target_url, secrets=secrets)


def volume_metadata(source: Layer, target: Layer) -> dict[str, Any]:
    """Return dimensions, voxel sizes and the factors by which source voxels are smaller than target voxels."""
    return {
        "source_dimensions": source.bounds.shape,
        "target_dimensions": target.bounds.shape,
        "source_voxel_size_nm": source.voxel_size_nm,
        "target_voxel_size_nm": target.voxel_size_nm,
        "scale_factors": [t / s for s, t in zip(source.voxel_size_nm, target.voxel_size_nm, strict=True)],
    }


def bounding_box(centre_nm: Size, size_vx: Sequence[int], voxel_size_nm: Size) -> Box:
    """Return the box of exactly ``size_vx`` voxels around a point."""
    return box_around_nm(centre_nm, size_vx, voxel_size_nm)


def download_subvolume(layer: Layer, box: Box) -> Cutout:
    """Read a box; voxels beyond the layer's bounds are told by the cutout's ``valid``."""
    return layer.read(box)


def apply_padding(cutout: Cutout, value: int) -> np.ndarray:
    """Return a cutout's array with ``value`` beyond the layer's bounds."""
    return np.where(cutout.valid, cutout.array, np.asarray(value, cutout.array.dtype))


def select_seed_layers(slices: int, recipe: SeedRecipe | None = None, seed: int = 0) -> list[int]:
    """Draw which of ``slices`` slices are kept, central ones favoured."""
    return keep_slices(Stream(seed, "seed layers"), recipe or SeedRecipe(), slices)


def augment_target(target: np.ndarray, keep: Sequence[int]) -> np.ndarray:
    """Return a (z, y, x) target with all slices but ``keep`` zeroed."""
    augmented = np.zeros_like(target)
    augmented[list(keep)] = target[list(keep)]
    return augmented


def generate_training_sample(
    instance: Instance, source: Layer, target: Layer, recipe: InstanceRecipe, seed: int = 0
) -> Sample:
    """Make one sample: arrays ``source``, ``target``, ``seed`` and ``valid``, and the record of how."""
    return InstanceSampler(recipe, source, target, [instance], seed)[0]


def generate_training_data(
    inputs: Inputs,
    recipe: InstanceRecipe,
    count: int,
    out: str | Path,
    *,
    seed: int = 0,
    workers: int | None = None,
) -> RunResult:
    """Make the whole data set: ``source/``, ``gt/`` and ``target/`` below a folder or a bucket's address."""
    with shared_chunks(out) as shared:
        job = prepare_instances(replace(inputs, shared=shared), recipe, SamplingRecipe(count=count), seed=seed)
        return make_instances(job, out, workers=workers, progress=make_progress(), secrets=inputs.secrets)[""]


def upload_array(array: np.ndarray, place: str | Path, name: str, secrets: str | Path | None = None) -> None:
    """Write an array as ``name`` (.npy) into a folder, ``gs://`` or ``s3://`` address."""
    data = io.BytesIO()
    np.save(data, array, allow_pickle=False)
    Place(place, secrets=secrets).write(name, data.getvalue())


def download_array(place: str | Path, name: str, secrets: str | Path | None = None) -> np.ndarray:
    """Read an array that `upload_array` wrote."""
    return np.load(io.BytesIO(Place(place, secrets=secrets).read(name)), allow_pickle=False)


def visualize(sample: Sample, path: str | Path) -> None:
    """Draw a sample slice by slice, seed and target outlined."""
    write_montage(Path(path), instance_slices(sample))
