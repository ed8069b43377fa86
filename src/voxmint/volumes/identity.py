"""What a layer is: by which a recipe names it, and by which it is known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voxmint.errors import LayerError
from voxmint.sample import JSON
from voxmint.volumes.geometry import Geometry
from voxmint.volumes.layer import Opening, Reader

_OF_A_VOLUME = ("type", "data_type", "num_channels")
_OF_A_SCALE = ("key", "size", "resolution", "voxel_offset", "chunk_sizes", "encoding", "sharding",
               "compressed_segmentation_block_size")  # fmt: skip
_OF_N5 = ("dimensions", "blockSize", "dataType", "compression")
_OF_A_PLACE = ("resolution", "offset", "pixelResolution", "units", "axes", "dimension_units", "_ARRAY_DIMENSIONS")


@dataclass(frozen=True)
class Description:
    """What a layer is, besides its grid.

    Attributes
    ----------
    format : str
        As in `Address`; ``memory`` for an array in memory.
    reader : {"tensorstore", "cloudvolume", "array"}
        Who reads it.
    metadata : dict
        What its own metadata say of voxels and place, as JSON; two readers of one layer say the same.
    dataset : str, optional
        Inside the file that the url names.
    """

    format: str
    reader: Reader
    metadata: JSON
    dataset: str | None = None


def identity_of(url: str, description: Description, geometry: Geometry, opening: Opening) -> JSON:
    """Return what names a layer in a recipe; see `voxmint.volumes.layer.Layer.identity`."""
    return {
        "url": url,
        "format": description.format,
        "reader": description.reader,
        "dataset": description.dataset,
        "mip": opening.mip,
        "axes": opening.axes,
        "voxel_size_nm": [float(n) for n in geometry.voxel_size_nm],
        "bounds": [list(geometry.bounds.start), list(geometry.bounds.stop)],
        "dtype": str(geometry.dtype),
        "metadata": hashlib.sha256(canonical(description.metadata)).hexdigest(),
    }


def differences(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (field, what it was, what it is now) of each field that was recorded and is another now."""
    for field, there in recorded.items():
        if field in found and canonical(found[field]) != canonical(there):
            yield field, there, found[field]


def canonical(value: Any) -> bytes:
    """Return JSON that is the same for equal values: names sorted, and 4.0 written as 4."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":")).encode()


def info_metadata(info: Mapping[str, Any], mip: int, url: str) -> JSON:
    """Return what an ``info`` file says of one scale of a precomputed layer: nothing of other scales or of meshes."""
    if len(info.get("scales", ())) <= mip:
        raise LayerError("the layer's info has no such scale", where=url, got=f"mip {mip}", remedy="choose another mip")
    scale = {"voxel_offset": [0, 0, 0], **info["scales"][mip]}
    return {**_only(_OF_A_VOLUME, info), "scale": _only(_OF_A_SCALE, scale)}


def place_metadata(attributes: Mapping[str, Any]) -> JSON:
    """Return those attributes of an array that can say where it lies; notes that others left there are theirs."""
    return _only(_OF_A_PLACE, attributes)


def _only(names: Sequence[str], values: Mapping[str, Any]) -> JSON:
    return {name: values[name] for name in names if values.get(name) is not None}


def _plain(value: Any) -> Any:
    """Return a value of plain types: what h5py and NumPy give, too."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)


def described(read: Callable[[str], JSON], fmt: str) -> tuple[JSON, JSON]:
    """Return the attributes of an array, and what decides its voxels and place."""
    if fmt == "zarr":
        array, attributes = read(".zarray"), read(".zattrs")
    else:
        array = read({"zarr3": "zarr.json", "n5": "attributes.json"}[fmt])
        attributes = array if fmt == "n5" else array.pop("attributes", {})
    attributes = attributes if isinstance(attributes, dict) else {}
    if fmt == "n5":
        array = {name: array[name] for name in _OF_N5 if name in array}
    return attributes, {"array": array, "attributes": place_metadata(attributes)}
