"""Which array a layer's metadata mean: the scale that was asked for, and who can read it.

A precomputed layer has scales in its ``info``; an OME-Zarr group (0.4 in ``.zattrs``, 0.5 in ``zarr.json``) has arrays,
one a scale, with sizes, units and offsets; any other zarr or N5 array has none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from voxmint.errors import LayerError
from voxmint.retry import FetchError
from voxmint.sample import JSON
from voxmint.volumes.address import Address
from voxmint.volumes.box import Lengths, Voxels, exact
from voxmint.volumes.geometry import unit_in_nm
from voxmint.volumes.layer import Opening
from voxmint.volumes.scale_keys import check_key

TENSORSTORE_ENCODINGS = frozenset({"raw", "png", "jpeg", "compressed_segmentation"})
_MOST_SCALES = 100


class OnlyCloudVolumeError(LayerError):
    """The layer's metadata name an encoding that TensorStore does not know."""


class Documents:
    """The metadata files of a layer, each fetched once.

    Parameters
    ----------
    get : callable
        Returns the bytes of a file by its name, or raises `FetchError`.
    """

    def __init__(self, get: Callable[[str], bytes]) -> None:
        self._get, self._known = get, dict[str, bytes | FetchError]()
        self._before = ""

    def below(self, path: str) -> Documents:
        """Return those of a folder below."""
        inner = Documents(self._get)
        inner._known, inner._before = self._known, f"{self._before}{path.strip('/')}/" if path else self._before
        return inner

    def bytes(self, name: str) -> bytes:
        """Return a file; raise `FetchError` if it cannot be had."""
        name = self._before + name
        if name not in self._known:
            try:
                self._known[name] = self._get(name)
            except FetchError as error:
                if error.cause == "unreadable":
                    raise  # may pass
                self._known[name] = FetchError(error.cause, error.detail)
        found = self._known[name]
        if isinstance(found, FetchError):
            raise FetchError(found.cause, found.detail)
        return found

    def json(self, name: str, *, optional: bool = True) -> JSON:
        """Return a JSON object; empty where the file is damaged, and, if ``optional``, where there is none.

        A bucket that may not be listed calls what is absent forbidden, so that this is none, too.
        """
        try:
            values = json.loads(self.bytes(name))
        except FetchError:
            if not optional:
                raise
            return {}
        except (ValueError, RecursionError):
            return {}  # damaged attributes carry nothing: the user is asked for the voxel size
        return values if isinstance(values, dict) else {}


@dataclass(frozen=True)
class Scale:
    """One array of a layer.

    Attributes
    ----------
    format : str
        As in `Address`.
    mip : int
        Its number among the layer's scales.
    path : str
        Its folder below the layer's; empty for the layer's own.
    axes : str, optional
        As stored, where metadata outside the array name them.
    size_nm, offset : three lengths, three voxels, optional
        That these metadata carry, axes (x, y, z).
    metadata : dict
        What of them decides its place.
    """

    format: str
    mip: int = 0
    path: str = ""
    axes: str | None = None
    size_nm: Lengths | None = None
    offset: Voxels | None = None
    metadata: JSON = field(default_factory=dict)


def find_scale(documents: Documents, opening: Opening, address: Address) -> Scale:
    """Return the array to open.

    Raises
    ------
    LayerError
        There is no such scale, or it is none of 3D; or its encoding is for another reader.
    FetchError
        The metadata cannot be had.
    """
    if address.format == "precomputed":
        info = documents.json("info", optional=False)
        return Scale("precomputed", precomputed_scale(info, opening, address.url, TENSORSTORE_ENCODINGS))
    fmt = address.format
    if fmt in ("zarr", "zarr3"):
        old, new = documents.json(".zattrs") if fmt == "zarr" else {}, JSON()
        if not old.get("multiscales") and (fmt == "zarr3" or not documents.json(".zarray")):
            new = documents.json("zarr.json")
            fmt = "zarr3" if new else fmt
        ome = new.get("attributes", {}).get("ome") if isinstance(new.get("attributes"), Mapping) else None
        multiscales = ome.get("multiscales") if isinstance(ome, Mapping) else old.get("multiscales")
        if multiscales:
            return _multiscale(multiscales, fmt, opening, address.url)
    if opening.mip or opening.scale_nm is not None:
        raise _no_scales(opening, address.url)
    return Scale(fmt)


def precomputed_scale(info: JSON, opening: Opening, url: str, known: frozenset[str] | None = None) -> int:
    """Return the number of the scale of a precomputed layer that was asked for; see that its encoding is known."""
    scales = info.get("scales")
    if not isinstance(scales, list) or not all(isinstance(scale, dict) for scale in scales):
        return opening.mip  # whoever reads it tells what is wrong
    other = [scale["encoding"] for scale in scales if known and str(scale.get("encoding")) not in known and scale.get(
        "encoding")]  # fmt: skip
    if other:
        raise OnlyCloudVolumeError("TensorStore does not know this encoding", where=url, got=str(other[0])[:40],
                                   expected=", ".join(sorted(known or ())),
                                   remedy="leave the reader at auto").about("reader")  # fmt: skip
    return chosen_scale([scale.get("resolution") for scale in scales], opening, url)


def chosen_scale(sizes: Sequence[Any], opening: Opening, url: str) -> int:
    """Return which of some scales was asked for, by number or by voxel size (x, y, z) in nm.

    Raises
    ------
    LayerError
        There is none such, or both were given.
    """
    there = "; ".join(f"{number}: {_shown(size)}" for number, size in enumerate(sizes[:_MOST_SCALES]))
    if opening.scale_nm is None:
        if not 0 <= opening.mip < len(sizes):
            raise LayerError("the layer has no such scale", where=url, expected=there, got=f"mip {opening.mip}",
                             remedy="choose one of these").about("mip")  # fmt: skip
        return opening.mip
    wanted = [float(n) for n in opening.scale_nm]
    for number, size in enumerate(sizes):
        if (found := _lengths(size)) and all(abs(a - b) <= 1e-6 * b for a, b in zip(wanted, found, strict=True)):
            if opening.mip not in (0, number):
                raise LayerError("two scales are asked for", where=url, got=f"mip {opening.mip} and {_shown(wanted)}",
                                 remedy="give either a mip or a voxel size").about("scale_nm")  # fmt: skip
            return number
    raise LayerError("the layer has no scale of this voxel size", where=url, expected=there, got=_shown(wanted),
                     remedy="choose one of these").about("scale_nm")  # fmt: skip


def without_scales(opening: Opening, url: str) -> None:
    """Raise `LayerError` if a scale is asked for of what has none."""
    if opening.mip or opening.scale_nm is not None:
        raise _no_scales(opening, url)


def _no_scales(opening: Opening, url: str) -> LayerError:
    argument = "mip" if opening.mip else "scale_nm"
    got = f"{argument} {getattr(opening, argument)}"
    return LayerError(
        "this layer has no mip levels (scales)",
        where=url,
        got=got,
        remedy="leave it out; name the array of that scale as the dataset",
    ).about(argument)


def _multiscale(multiscales: Any, fmt: str, opening: Opening, url: str) -> Scale:
    """Return the array of an OME-Zarr group; of several multiscales the first is taken, as the format has it."""
    try:
        one = multiscales[0]
        axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in one["axes"]]
        names = [str(axis["name"]).lower() for axis in axes]
        order = [names.index(name) for name in "xyz"]
        datasets = [dict(dataset) for dataset in one["datasets"]]
        whole, shift = _transforms(one.get("coordinateTransformations"), len(axes))
        placed = [_transforms(dataset.get("coordinateTransformations"), len(axes)) for dataset in datasets]
        nowhere = [0.0] * len(axes)
        units = [unit_in_nm(str(axes[axis].get("unit"))) for axis in order]
        scaled = [[exact(own[axis]) * exact(whole[axis]) for axis in order] for own, _ in placed]
        moved = [None if by is None and shift is None else [exact((by or nowhere)[axis]) * exact(whole[axis]) + exact(
            (shift or nowhere)[axis]) for axis in order] for _, by in placed]  # fmt: skip
        letters = "".join(name if len(name) == 1 else "?" for name in names)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        wrong = LayerError("the OME-Zarr metadata name no scales of x, y, z", where=url,
                           got=f"{type(error).__name__}: {str(error)[:200]}",
                           remedy="name one array as the dataset, with its voxel size").about("dataset")  # fmt: skip
        raise wrong from None
    known = [unit for unit in units if unit is not None]
    sizes = [[n * exact(u) for n, u in zip(size, known, strict=True)] if len(known) == 3 else None for size in scaled]
    mip = chosen_scale(sizes, opening, url)
    path = datasets[mip].get("path")
    check_key(path, url)
    offset = None
    if moved[mip] is not None and len(known) == 3:
        offset = _offset(moved[mip], scaled[mip], scaled[0])
        if offset is None and opening.offset is None:
            raise LayerError("this scale begins between voxels", where=url, expected="a translation by whole voxels",
                             got=f"translation {[float(n) for n in moved[mip] or ()]}, scale "
                             f"{[float(n) for n in scaled[mip]]} (x, y, z)",
                             remedy="say its offset in voxels").about("offset")  # fmt: skip
    about = {"axes": axes, "dataset": datasets[mip], "whole": one.get("coordinateTransformations")}
    return Scale(fmt, mip, str(path), letters, sizes[mip], offset, {"multiscale": about})


def _transforms(listed: Any, rank: int) -> tuple[list[float], list[float] | None]:
    """Return scale and translation of each axis as stored; no translation is none."""
    scale, translation = [1.0] * rank, None
    for one in listed or ():
        values = [float(n) for n in one.get("scale") or one.get("translation") or ()]
        if len(values) != rank or not all(map(isfinite, values)):
            raise ValueError(f"a transformation of {len(values)} numbers for {rank} axes")
        if "scale" in one:
            if min(values) <= 0:
                raise ValueError("a scale that is not positive")
            scale = values
        else:
            translation = values
    return scale, translation


def _offset(moved: Any, size: Any, finest: Any) -> Voxels | None:
    """Return the first voxel of a scale, None where it lies between voxels.

    A translation places the centre of the first voxel; here voxels are placed by their corners, such that those of all
    scales agree. Writers that place corners are understood, too, where only that gives whole voxels.
    """
    for corner in ([m - s / 2 + f / 2 for m, s, f in zip(moved, size, finest, strict=True)], moved):
        steps = [c / s for c, s in zip(corner, size, strict=True)]
        whole = [round(step) for step in steps]
        if all(abs(step - near) < 1e-6 for step, near in zip(steps, whole, strict=True)):
            return (whole[0], whole[1], whole[2])
    return None


def _lengths(size: Any) -> list[float] | None:
    try:
        x, y, z = (float(n) for n in size)
    except (TypeError, ValueError):
        return None
    return [x, y, z]


def _shown(size: Any) -> str:
    lengths = _lengths(size)
    return "no voxel size" if lengths is None else " x ".join(f"{n:g}" for n in lengths) + " nm"


def inner_address(address: Address, scale: Scale) -> Address:
    """Return the address of the array itself."""
    place = f"{address.place.rstrip('/')}/{scale.path}" if scale.path else address.place
    return replace(address, place=place, format=scale.format)
