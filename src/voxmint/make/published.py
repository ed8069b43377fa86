"""What the functions of the published generator of instances take and give, in the words of the library.

Their boxes and arrays have their axes in ``coordinate_order``, such as ``["x", "y", "z"]``; their coordinates and crop
sizes count voxels of the target.
"""

from __future__ import annotations

import io
import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.datasets.manifest import REJECTED, read_rejected, rejected_lines
from voxmint.datasets.npy import NpyFormat
from voxmint.errors import ChunkError, InputError, RecipeError, RunError
from voxmint.instances.table.table import Instance
from voxmint.sample import JSON, Failed, little_endian
from voxmint.stores.place import Place
from voxmint.volumes.layer import Layer

POINT_NAMES = {"pre_nm": "pre_pt_", "post_nm": "post_pt_", "centre_nm": ""}
"""What stands before x, y and z in the published names of an instance's points."""


class Volume:
    """A layer with ``info``, as Neuroglancer has it, of the one scale that is read; all else is the layer's own."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        known = getattr(getattr(layer, "description", None), "metadata", {})
        scale = {"key": "", "encoding": "raw", **known.get("scale", {}), "size": list(layer.bounds.shape),
                 "resolution": list(layer.voxel_size_nm), "voxel_offset": list(layer.bounds.start),
                 "chunk_sizes": [list(layer.chunk_shape)]}  # fmt: skip
        kept = {name: known[name] for name in ("type", "num_channels") if name in known}
        self.info: JSON = {"num_channels": 1, **kept, "data_type": str(layer.dtype), "scales": [scale]}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "layer":
            raise AttributeError(name)
        return getattr(self.layer, name)


class Dimensions(tuple[int, ...]):
    """A volume's published dimensions, each its size minus 1, that also know where the volume begins."""

    offset: tuple[int, ...]

    @classmethod
    def of(cls, info: Mapping[str, Any], order: Sequence[str]) -> Dimensions:
        """Return those of a volume's ``info``."""
        scale = info["scales"][0]
        made = cls(int(scale["size"]["xyz".index(axis)]) - 1 for axis in order)
        offset = scale.get("voxel_offset") or [0, 0, 0]
        made.offset = tuple(int(offset["xyz".index(axis)]) for axis in order)
        return made


def checked_order(coordinate_order: Iterable[str]) -> tuple[str, ...]:
    """Return the order of axes, if it names each of x, y and z once."""
    order = tuple(str(axis).lower() for axis in coordinate_order)
    if sorted(order) != ["x", "y", "z"]:
        raise RecipeError("no order of axes", where="coordinate_order", got=repr(coordinate_order),
                          expected="x, y and z, each once, such as ['x', 'y', 'z']")  # fmt: skip
    return order


def checked_whole(value: Any, where: str, least: int = 1) -> int:
    """Return a whole number that is given as such, or in digits."""
    try:
        number = int(value) if isinstance(value, str) else operator.index(value)
    except (TypeError, ValueError):
        number = least - 1
    if number < least:
        raise RecipeError("no such number", where=where, expected=f"a whole number from {least}", got=repr(value),
                          remedy="correct this argument")  # fmt: skip
    return number


def checked_crop(crop_sizes: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the size (x, y, z) that ``{"crop_size_x": 128, ...}`` means."""
    missing = [name for axis in "xyz" if (name := f"crop_size_{axis}") not in crop_sizes]
    if missing:
        raise RecipeError("the size of the crop is incomplete", where="crop_sizes", got=repr(dict(crop_sizes)),
                          expected="crop_size_x, crop_size_y and crop_size_z",
                          remedy=f"add {', '.join(missing)}")  # fmt: skip
    x, y, z = (checked_whole(crop_sizes[f"crop_size_{axis}"], f"crop_sizes['crop_size_{axis}']") for axis in "xyz")
    return x, y, z


def scale_factors(source: Sequence[Any], target: Sequence[Any], order: Sequence[str]) -> dict[str, float]:
    """Return target over source voxel size by axis, of lists of numbers or of their texts, which are in ``order``."""
    sizes = []
    for where, resolution in (("coord_resolution_source", source), ("coord_resolution_target", target)):
        try:
            found = [float(size) for size in resolution]
        except (TypeError, ValueError):
            found = []
        if len(found) != 3 or not all(0 < size < float("inf") for size in found):
            raise RecipeError("no voxel size", where=where, expected="three positive numbers, such as ['4', '4', '33']",
                              got=repr(resolution), remedy="give nm along each axis of coordinate_order")  # fmt: skip
        sizes.append(found)
    return {axis: t / s for axis, s, t in zip(order, *sizes, strict=True)}


def check_scale(scale: Mapping[str, Any], source: Mapping[str, Any], target: Mapping[str, Any]) -> None:
    """Refuse scale factors, by axis, that are not those of the two volumes, given by their ``info``."""
    sizes = (info["scales"][0]["resolution"] for info in (target, source))
    known = {axis: float(t) / float(s) for axis, t, s in zip("xyz", *sizes, strict=True)}
    if any(axis not in scale or abs(float(scale[axis]) - known[axis]) > 0.01 * known[axis] for axis in known):
        raise InputError("the scale factors are not those of the two volumes", expected=str(known), got=str(scale),
                         remedy="give coord_resolution_source and coord_resolution_target as the volumes' info has "
                                "them, in the order of coordinate_order")  # fmt: skip


def named_points(row: Instance) -> JSON:
    """Return a row's points, read in the table's own unit, under the published names."""
    points: JSON = {}
    for field, name in POINT_NAMES.items():
        for axis, value in zip("xyz", getattr(row, field) or (None, None, None), strict=True):
            points[f"{name}{axis}"] = int(value) if value is not None and value.is_integer() else value
    return points


def instance_of(named: Mapping[str, Any], voxel_size_nm: Sequence[float]) -> Instance:
    """Return the instance that published names describe in voxels of a size."""
    index = checked_whole(named.get("index"), "materialization: index", 0)
    points: dict[str, Any] = {}
    for field, name in POINT_NAMES.items():
        found = [named.get(f"{name}{axis}") for axis in "xyz"]
        if any(value is None for value in found):
            points[field] = None
            continue
        values = np.array(found, np.float64).tolist()
        x, y, z = (round(value * size, 6) for value, size in zip(values, voxel_size_nm, strict=True))
        points[field] = (x, y, z)
    centre = points.pop("centre_nm")
    if centre is None or not np.isfinite(centre).all():
        raise InputError("the instance has no centre", where=f"materialization, index {index}", expected="x, y and z",
                         got=str(dict(named)))  # fmt: skip
    return Instance(index, index, centre, **points)


def write_array(place: Place, name: str, array: NDArray[Any]) -> None:
    """Write an array as an object of a place, in the .npy format."""
    array = little_endian(np.asarray(array))
    if array.dtype.hasobject or array.dtype.names:
        raise InputError("this array holds no plain numbers", where=name, got=array.dtype, expected="numbers")
    place.write(name, NpyFormat().encode(array, name))


def add_rejected(place: Place, looked_at: Iterable[int], rejections: Iterable[JSON]) -> list[int]:
    """Enter rejections into the list of a place, in place of what it says of indices ``looked_at``; return all."""
    looked = set(looked_at)
    kept = [row for row in read_rejected(place) if row["index"] not in looked]
    rows = sorted([*kept, *rejections], key=lambda row: int(row["index"]))
    if rows or place.exists(REJECTED):
        place.write(REJECTED, b"".join(rejected_lines(rows)))
    return [int(row["index"]) for row in rows]


def turned(array: NDArray[Any], order: Sequence[str], wanted: Sequence[str]) -> NDArray[Any]:
    """Return an array whose axes are in ``order`` with its axes in another order."""
    return np.transpose(array, [list(order).index(axis) for axis in wanted])


def numbers_of(keys: Iterable[int], materialization: Mapping[int, Any]) -> list[int]:
    """Return which rows of a materialization keys name."""
    places = {key: number for number, key in enumerate(materialization)}
    unknown = [key for key in keys if key not in places]
    if unknown:
        raise InputError("keys that the materialization does not have", where="instance_keys", got=str(unknown[:8]),
                         expected=f"some of its {len(places)} keys")  # fmt: skip
    return [places[key] for key in keys]


def bucket_of(name: str) -> Place:
    """Return the bucket of a name (of Google's) or address."""
    return Place(name if "://" in name else f"gs://{name}")


def loaded(data: bytes, where: str) -> NDArray[Any]:
    """Return the array of a .npy file."""
    try:
        array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
        return array
    except (ValueError, EOFError) as error:
        raise InputError(f"no array: {error}", where=where, expected="a .npy file of numbers") from error


def told_instances(what: str, place: Place, looked_at: list[int], rejected: Mapping[int, str], failed: int) -> str:
    """Enter rejections into the list of a place; say how many instances were made, and why the others were not."""
    rows = [{"index": i, "key": str(i), "reason": why, "record": {}} for i, why in rejected.items()]
    add_rejected(place, looked_at, rows)
    made, unread = len(looked_at) - len(rejected) - failed, f", {failed} could not be read" if failed else ""
    lines = [f"{what}: {made} of {len(looked_at)} instances in {place.url}, {len(rejected)} rejected{unread}"]
    lines += [f"  {number} times: {reason}" for reason, number in Counter(rejected.values()).most_common(5)]
    return "\n".join(lines)


def unread(failed: list[Failed]) -> RunError:
    """Return the error that tells of instances whose chunks could not be read."""
    absent = any(isinstance(one.cause, ChunkError) and one.cause.cause == "missing" for one in failed)
    remedy = "if absent chunks mean background, set SOURCE_SPARSE or TARGET_SPARSE of this module to True before"
    return RunError(f"{len(failed)} instances could not be cut out; the others are written", got=str(failed[0].cause),
                    remedy=f"{remedy} connect_to_cloudvolumes" if absent else "call this again later")  # fmt: skip
