"""The functions of the published data generator, over voxmint: a script that was written against them runs unchanged.

Arrays have their axes in ``coordinate_order``, by default (x, y, z), and are all of one size. Coordinates and crop
sizes count voxels of the target. Where a result differs from the published function's, its docstring says so. The
constants below are settings: assign to them before the functions are called.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from voxmint.datasets.manifest import read_rejected
from voxmint.errors import InputError, RecipeError, RunError
from voxmint.instances.cut.cutout import padding_of
from voxmint.instances.cut.extract import is_sparse
from voxmint.instances.cut.keep import keep_as_seed
from voxmint.instances.cut.seeds import keep_slices
from voxmint.instances.draw.locate import check_overlap, check_table
from voxmint.instances.draw.sampling import SamplingRecipe, draw_instances
from voxmint.instances.draw.settle import settled
from voxmint.instances.recipe import InstanceRecipe, SeedRecipe
from voxmint.instances.sampler import InstanceSampler
from voxmint.instances.table.columns import ColumnMap
from voxmint.instances.table.table import InstanceTable
from voxmint.make import published
from voxmint.make.published import (
    Dimensions,
    Volume,
    bucket_of,
    checked_order,
    checked_whole,
    loaded,
    numbers_of,
    turned,
    unread,
    write_array,
)
from voxmint.make.published import told_instances as told
from voxmint.make.reports import told_rows
from voxmint.make.stored import picture_of_array
from voxmint.randomness import Stream
from voxmint.sample import Failed, Rejected
from voxmint.stores.place import Place
from voxmint.volumes.box import Box, voxel_at_nm
from voxmint.volumes.opening import open_layer

LOCAL_EXECUTION = True
"""Whether ``local_dir`` is a folder; else it is a bucket, by its name or address (``gs://``, ``s3://``)."""
SEED = 0
"""Decides which rows are drawn and which slices are kept; the published code draws others in each run."""
SOURCE_SPARSE = False
"""Declares that absent chunks of the source are 0; the published code takes any chunk it cannot have for that."""
TARGET_SPARSE = False
"""Declares that absent chunks of the target are background."""

_XYZ = ("x", "y", "z")
_calls = count()


def select_random_instances(n: int, table_name: str | Path) -> tuple[list[int], dict[int, dict[str, Any]]]:
    """Draw ``n`` rows of a materialization table, of any size; return keys 0 to n-1 and each one's row.

    Unlike the published function's, the rows depend on `SEED` alone. Fewer rows than ``n`` are an error.
    """
    table = InstanceTable(table_name, ColumnMap(voxel_size_nm=(1.0, 1.0, 1.0), id=()))
    drawn = draw_instances(table, SamplingRecipe(count=checked_whole(n, "n"), without_point="drop"), SEED)
    print(told_rows(drawn.report))
    rows = {key: {"index": row.row, **published.named_points(row)} for key, row in enumerate(drawn.rows.instances())}
    return list(rows), rows


def connect_to_cloudvolumes(
    source_url: str, target_url: str, bucket_secret_json_path: str | Path | None = None
) -> tuple[Volume, Volume]:
    """Open source and target, anything that voxmint reads; both have ``info``.

    The credentials are read for layers in buckets alone; ``~/.cloudvolume/secrets`` and none mean the usual ones.
    """
    given = Path(bucket_secret_json_path).expanduser() if bucket_secret_json_path else None
    usual = given is None or given == Path("~/.cloudvolume/secrets").expanduser()
    opened = []
    for url, sparse in ((source_url, SOURCE_SPARSE), (target_url, TARGET_SPARSE)):
        local = "://" not in str(url) or "file://" in str(url)
        opened.append(Volume(open_layer(str(url), secrets=None if usual or local else given, sparse=sparse)))
    return opened[0], opened[1]


def cloudvolume_metadata(
    source_cv: Any,
    target_cv: Any,
    coordinate_order: Iterable[str],
    coord_resolution_source: Sequence[Any],
    coord_resolution_target: Sequence[Any],
) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, float]]:
    """Return the size of the smaller volume, each number minus 1, the same in the source, and target over source size.

    Of both volumes the smaller one has fewer voxels; the published function adds up their sides. All results are in
    ``coordinate_order``, as the resolutions are; the published function is right for (x, y, z) alone. Resolutions that
    are not those of the volumes are an error.
    """
    order = checked_order(coordinate_order)
    scale = published.scale_factors(coord_resolution_source, coord_resolution_target, order)
    published.check_scale(scale, source_cv.info, target_cv.info)
    sizes = [[int(n) for n in cv.info["scales"][0]["size"]] for cv in (target_cv, source_cv)]
    smaller = target_cv if np.prod(sizes[0], dtype=object) <= np.prod(sizes[1], dtype=object) else source_cv
    dimensions = Dimensions.of(smaller.info, order)
    return dimensions, tuple(int(n * scale[axis]) for n, axis in zip(dimensions, order, strict=True)), scale


def download_subvolumes(
    instance_keys: Collection[int],
    source_cv: Any,
    target_cv: Any,
    local_dir: str | Path,
    materialization: Mapping[int, Mapping[str, Any]],
    coordinate_order: Iterable[str] = _XYZ,
    crop_sizes: Mapping[str, int] | None = None,
    volume_dimensions: Sequence[int] | None = None,  # noqa: ARG001 - the volumes know better
    scale: Mapping[str, float] | None = None,
    pad_z: bool = False,  # noqa: ARG001
) -> None:
    """Write ``source/source_<index>.npy`` and ``gt/target_<index>.npy``, uint8, both on the source's grid.

    Unlike the published function's, crops have exactly their size, to the last plane of the volumes, and are padded on
    every axis alike, whatever ``pad_z``: the source with 148, the target with 0. The target is 1 on the one instance,
    0 elsewhere, never interpolated. Rows that offer no sample are told, and listed with the reason in
    ``rejected.csv``; a chunk that cannot be read is an error, after all others were written.
    """
    order, place = checked_order(coordinate_order), _place(local_dir)
    crop = published.checked_crop(
        crop_sizes or {f"crop_size_{a}": n for a, n in zip(_XYZ, (128, 128, 16), strict=True)}
    )
    source, target = (getattr(volume, "layer", volume) for volume in (source_cv, target_cv))
    if scale is not None:
        published.check_scale(scale, source_cv.info, target_cv.info)
    check_overlap(source, target)
    rows = [published.instance_of(row, target.voxel_size_nm) for row in materialization.values()]
    recipe = InstanceRecipe(crop_vx=crop, source_sparse=is_sparse(source), target_sparse=is_sparse(target))
    sampler = InstanceSampler(settled(recipe, target, rows), source, target, rows, SEED)
    numbers = numbers_of(instance_keys, materialization)
    inside = [n for n in numbers if target.bounds.contains(voxel_at_nm(rows[n].centre_nm, target.voxel_size_nm))]
    rejected = {rows[n].id: "the centre lies outside the target's volume" for n in numbers if n not in set(inside)}
    failed: list[Failed] = []
    for outcome in sampler.stream(inside):
        index = rows[outcome.index].id
        if isinstance(outcome, Failed):
            failed.append(outcome)
        elif isinstance(outcome, Rejected):
            rejected[index] = outcome.reason
        else:
            for name, array in (("source/source", "source"), ("gt/target", "target")):
                write_array(place, f"{name}_{index}.npy", turned(outcome.arrays[array], "zyx", order))
    print(told("download_subvolumes", place, [rows[n].id for n in numbers], rejected, len(failed)))
    if failed:
        raise unread(failed)
    if numbers and len(rejected) == len(numbers):
        check_table([rows[n] for n in numbers], target, target.voxel_size_nm, source=source)  # which may know why
        raise RunError("no instance could be cut out", where=str(local_dir), got=next(iter(rejected.values())))


def generate_training_data(
    instance_keys: Collection[int],
    materialization: Mapping[int, Mapping[str, Any]],
    local_dir: str | Path,
    coordinate_order: Iterable[str] = _XYZ,
    crop_size_z: int = 128,
) -> None:
    """Write ``target/augmented_target_<index>.npy``: the target with all but a few slices zeroed.

    Unlike the published function's, the model of slices is laid over those on which the instance is, whatever
    ``crop_size_z``, so that at least one kept slice shows it. Rows that `download_subvolumes` rejected are left out.
    """
    order, place = checked_order(coordinate_order), _place(local_dir)
    checked_whole(crop_size_z, "crop_size_z")
    numbers, rows = numbers_of(instance_keys, materialization), list(materialization.values())
    wanted = [checked_whole(rows[n].get("index"), "materialization: index", 0) for n in numbers]
    known = {row["index"]: row["reason"] for row in read_rejected(place)}
    lost = [i for i in wanted if i not in known and not place.exists(f"gt/target_{i}.npy")]
    if lost:
        raise InputError(f"{len(lost)} targets are not there", where=place.url, got=f"no gt/target_{lost[0]}.npy",
                         remedy="call download_subvolumes with the same keys and place first")  # fmt: skip
    rejected = {index: known[index] for index in wanted if index in known}
    for index in wanted:
        if index in rejected:
            continue
        target = loaded(place.read(f"gt/target_{index}.npy"), f"gt/target_{index}.npy")
        mask = (turned(target, order, "zyx") != 0).astype(np.uint8)
        slices = np.flatnonzero(mask.any(axis=(1, 2))).tolist()
        if not slices:
            rejected[index] = "the target is empty"
            continue
        seed = keep_as_seed(Stream(SEED, "instance", index, 0), InstanceRecipe(), mask, slices)[0]
        kept = np.where(turned(seed, "zyx", order) != 0, target, np.zeros((), target.dtype))
        write_array(place, f"target/augmented_target_{index}.npy", kept)
    print(told("generate_training_data", place, wanted, rejected, 0))


def get_bbox_from_instance_data(
    instance_data: Mapping[str, Any],
    coordinate_order: Iterable[str],
    crop_sizes: Mapping[str, int],
    volume_dimensions: Sequence[int],
    pad_z: bool = False,
) -> tuple[list[int], tuple[tuple[int, int], ...]]:
    """Return the crop's box within the volume, and by how much it is padded.

    ``volume_dimensions`` are sizes minus 1, as `cloudvolume_metadata` gives them, which also know the volume's offset.
    Box and padding make up the crop's size; the published function loses a voxel of odd sizes, and the last plane.
    """
    order, crop = checked_order(coordinate_order), published.checked_crop(crop_sizes)
    sizes = [crop["xyz".index(axis)] for axis in order]
    start = [int(np.floor(float(instance_data[axis]))) - n // 2 for axis, n in zip(order, sizes, strict=True)]
    bbox = [edge for a, n in zip(start, sizes, strict=True) for edge in (a, a + n)]
    offset = getattr(volume_dimensions, "offset", (0, 0, 0))
    return calculate_crop_pad(bbox, [int(n) + 1 for n in volume_dimensions], pad_z, offset=offset)


def calculate_crop_pad(
    bbox_3d: Sequence[int],
    volume_shape: Sequence[int],
    pad_z: bool = False,  # noqa: ARG001
    *,
    offset: Sequence[int] = (0, 0, 0),
) -> tuple[list[int], tuple[tuple[int, int], ...]]:
    """Clip ``[min, max, min, max, min, max]``, max excluded, to a volume; return that and ((before, after), ...).

    ``volume_shape`` is the true size. Every axis is padded; the published function leaves z unless ``pad_z``.
    """
    if len(bbox_3d) != 6 or any(low >= high for low, high in zip(bbox_3d[::2], bbox_3d[1::2], strict=True)):
        raise RecipeError("no box", where="bbox_3d", expected="[min, max, min, max, min, max], each min below its max",
                          got=str(list(bbox_3d)))  # fmt: skip
    lows, highs = ([int(n) for n in bbox_3d[first::2]] for first in (0, 1))
    box, volume = Box((lows[0], lows[1], lows[2]), (highs[0], highs[1], highs[2])), Box.at(offset, volume_shape)
    before, after = padding_of(box, volume)
    common = box.intersect(volume)
    clipped = [edge for ends in zip(common.start, common.stop, strict=True) for edge in ends]
    return clipped, tuple(zip(before, after, strict=True))


def apply_padding_to_segmentation(
    cropped_seg: np.ndarray, padding: Sequence[Sequence[int]], pad_value: int = 0
) -> np.ndarray:
    """Return an array with ``pad_value`` around it, ((before, after), ...) voxels wide."""
    pairs = [tuple(int(n) for n in pair) for pair in padding]
    if len(pairs) != np.ndim(cropped_seg) or any(len(pair) != 2 or min(pair) < 0 for pair in pairs):
        raise RecipeError("no padding of this array", where="padding", got=str(padding),
                          expected=f"(before, after), not below 0, for {np.ndim(cropped_seg)} axes")  # fmt: skip
    return np.pad(cropped_seg, pairs, constant_values=np.asarray(pad_value).astype(np.asarray(cropped_seg).dtype))


def get_seed_layers(z_crop_size: int) -> set[int]:
    """Draw which of ``z_crop_size`` slices are kept, central ones favoured.

    The n-th call of a process always draws the same, of `SEED`; the published function's draws cannot be had again.
    """
    slices = checked_whole(z_crop_size, "z_crop_size")
    return set(keep_slices(Stream(SEED, "seed layers", next(_calls)), SeedRecipe(), slices))


def augment_target_volume(
    gt_subvol: np.ndarray, seed_layers: Collection[int], coordinate_order: Iterable[str] = _XYZ
) -> np.ndarray:
    """Return a target in which all slices along z but ``seed_layers`` are zero. Slices it has not are an error."""
    axis = checked_order(coordinate_order).index("z")
    kept = sorted(int(n) for n in seed_layers)
    if kept and not 0 <= kept[0] <= kept[-1] < gt_subvol.shape[axis]:
        raise RecipeError("the target has no such slices", where="seed_layers", got=str(kept),
                          expected=f"0 to {gt_subvol.shape[axis] - 1}")  # fmt: skip
    augmented = np.zeros_like(gt_subvol)
    np.moveaxis(augmented, axis, 0)[kept] = np.moveaxis(gt_subvol, axis, 0)[kept]
    return augmented


def upload_to_bucket(blob_name: str, data: np.ndarray, bucket_name: str = "synanno") -> None:
    """Write an array as .npy to a bucket, given by its name (of Google's) or address (``gs://``, ``s3://``)."""
    write_array(bucket_of(bucket_name), blob_name, data)


def download_from_bucket(blob_name: str, bucket_name: str = "synanno") -> np.ndarray:
    """Read an array that `upload_to_bucket` wrote."""
    return loaded(bucket_of(bucket_name).read(blob_name), f"{bucket_name}/{blob_name}")


def visualize_data(file: str | Path) -> Path:
    """Draw a saved array slice by slice, and return where the picture lies.

    The other arrays of the instance are drawn, too, where they are, with outlines on the image. The picture goes to
    ``pictures`` beside their folders, else beside the file; the published function opens a window instead.
    """
    print(f"picture   {(out := picture_of_array(file))}")
    return out


def _place(local_dir: str | Path) -> Place:
    return Place(local_dir) if LOCAL_EXECUTION else bucket_of(str(local_dir))
