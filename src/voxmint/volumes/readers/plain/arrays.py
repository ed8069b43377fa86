"""Layers in plain files: HDF5, NIfTI, ``.npy``, and arrays in memory."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import LayerError
from voxmint.retry import FetchError
from voxmint.volumes.address import Address
from voxmint.volumes.box import Box, Lengths, Voxels
from voxmint.volumes.chunks import ChunkedLayer
from voxmint.volumes.geometry import Geometry, axes_order, carried_by, offset_of, voxel_size_of
from voxmint.volumes.hdf5_links import own_dataset
from voxmint.volumes.identity import Description, place_metadata
from voxmint.volumes.layer import Opening
from voxmint.volumes.readers.scales import without_scales

_BLOCK = (64, 64, 64)
"""What is read together of an array that has no chunks of its own."""
_MM = 10**6
_DIGITS = 6  # of a NIfTI voxel size: it is stored as float32, in mm


def open_memory(opening: Opening, array: NDArray[Any]) -> ArrayLayer:
    """Open an array in memory, axes (x, y, z) unless the opening says otherwise."""
    described = _described("memory", array)
    return ArrayLayer(opening, "array in memory", array, opening.axes or "xyz", described)


def open_array(opening: Opening, address: Address) -> ChunkedLayer:
    """Open a plain file, or a folder of slices."""
    without_scales(opening, address.url)
    openers = {"hdf5": _open_hdf5, "nifti": _open_nifti, "npy": _open_npy, "tiff": _open_slices,
               "png": _open_slices}  # fmt: skip
    return openers[address.format](opening, address)


class ArrayLayer(ChunkedLayer):
    """A layer over anything that is sliced like an array.

    Parameters
    ----------
    opening, url
        See `ChunkedLayer`.
    array : array-like
        Has ``shape`` and ``dtype``; slicing gives an ndarray.
    axes : str
        Names of its axes in their order.
    description : Description
        What it is.
    size, offset : three lengths in nm, three voxels, optional
        What the file carries, axes (x, y, z).
    chunks : tuple of int, optional
        Chunk shape as stored.
    one_by_one : bool
        Whether the file's reader must not be called from two threads at a time.
    """

    def __init__(
        self,
        opening: Opening,
        url: str,
        array: Any,
        axes: str,
        description: Description,
        *,
        size: Lengths | None = None,
        offset: Voxels | None = None,
        chunks: tuple[int, ...] | None = None,
        one_by_one: bool = False,
    ) -> None:
        self._array, self._order = array, axes_order(axes, array.shape, url)
        self._lock_file = threading.Lock() if one_by_one else None
        dtype = np.dtype(array.dtype)
        if dtype.kind not in "buif":
            raise LayerError("not a volume of numbers", where=url, expected="integers, floats or booleans", got=dtype,
                             remedy="choose another dataset, or convert it")  # fmt: skip
        shape = _pick(array.shape, self._order)
        first = offset_of(opening, offset, url)
        blocks = (
            _pick(chunks, self._order) if chunks else _pick([min(a, b) for a, b in zip(shape, _BLOCK, strict=True)])
        )
        bounds = Box.at(first, shape)
        if bounds.empty:
            raise LayerError("the volume is empty", where=url, got=f"shape {shape}", remedy="choose another")
        geometry = Geometry(voxel_size_of(opening, size, url), bounds, blocks, first, dtype.newbyteorder("="))
        super().__init__(opening, url, geometry, description)

    def fetch(self, chunk: Box) -> NDArray[Any]:
        """Copy one chunk out of the array."""
        window: list[slice | int] = [0] * len(self._array.shape)
        for axis, part in zip(self._order, chunk.slices(self.bounds), strict=True):
            window[axis] = part
        try:
            if self._lock_file is None:
                found = np.array(self._array[tuple(window)])
            else:
                with self._lock_file:
                    self.check(tuple(window))
                    found = np.array(self._array[tuple(window)])
        except FetchError:
            raise
        except (OSError, ValueError, RuntimeError, KeyError, IndexError) as error:
            detail = f"{type(error).__name__}: {error}"
        else:
            rank = sorted(self._order)
            return found.transpose([rank.index(axis) for axis in self._order])
        raise FetchError("unreadable", detail)

    def check(self, window: tuple[slice | int, ...]) -> None:
        """Raise `FetchError` when the file does not hold the window; arrays that cannot lack any hold all."""


class Hdf5Layer(ArrayLayer):
    """A dataset of an HDF5 file. Its chunks that were never written are missing, not zero."""

    def check(self, window: tuple[slice | int, ...]) -> None:
        """Raise `FetchError` when the chunk was never written."""
        if self._array.chunks is None:
            return
        corner = tuple(part.start if isinstance(part, slice) else part for part in window)
        if self._array.id.get_chunk_info_by_coord(corner).byte_offset is None:
            raise FetchError("missing", f"the chunk at {corner} of {self._array.name} was never written")

    def close(self) -> None:
        """Close the file, too."""
        super().close()
        if self._array:  # false once the file is closed
            self._array.file.close()


def _open_hdf5(opening: Opening, address: Address) -> ChunkedLayer:
    import h5py

    try:
        file = h5py.File(address.path, "r")
    except OSError as error:
        raise _unreadable(address.path, error) from error
    volumes: list[str] = []
    file.visititems(
        lambda name, found: volumes.append(name) if isinstance(found, h5py.Dataset) and found.ndim >= 3 else None
    )
    name = opening.dataset or (volumes[0] if len(volumes) == 1 else None)
    try:
        found = own_dataset(file, name, address.path) if name else None
    except LayerError:
        file.close()
        raise
    if not isinstance(found, h5py.Dataset):
        file.close()
        raise LayerError("no such dataset" if name else "name the dataset of the volume", where=address.path,
                         expected=", ".join(volumes[:10]) or "a dataset of three axes", got=name,
                         remedy="choose one of them").about("dataset")  # fmt: skip
    axes = opening.axes or "zyx"
    order = axes_order(axes, found.shape, address.url)
    size, offset = carried_by(dict(found.attrs), order)
    described = _described("hdf5", found, dataset=str(found.name).strip("/"), chunks=found.chunks,
                           attributes=place_metadata(dict(found.attrs)))  # fmt: skip
    return Hdf5Layer(opening, address.url, found, axes, described, size=size, offset=offset, chunks=found.chunks,
                     one_by_one=True)  # fmt: skip


def _open_nifti(opening: Opening, address: Address) -> ChunkedLayer:
    from voxmint.nifti.files import read_volume

    volume = read_volume(address.path)
    size = [float(f"{n * _MM:.{_DIGITS}g}") for n in volume.voxel_size_mm]
    described = _described("nifti", volume.array, affine=volume.affine, scaling=volume.scaling)
    return ArrayLayer(opening, address.url, volume.array, "xyz", described, size=size)


def _open_npy(opening: Opening, address: Address) -> ChunkedLayer:
    try:
        array = np.load(address.path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(address.path, error) from error
    return ArrayLayer(opening, address.url, array, opening.axes or "zyx", _described("npy", array))


def _open_slices(opening: Opening, address: Address) -> ChunkedLayer:
    from voxmint.volumes.readers.plain.slices import SliceLayer

    return SliceLayer(opening, address)


def _described(fmt: str, array: Any, *, dataset: str | None = None, **more: Any) -> Description:
    metadata = {"shape": array.shape, "dtype": np.dtype(array.dtype).str, **more}
    return Description(fmt, "array", metadata, dataset)


def _unreadable(path: Path, error: Exception) -> LayerError:
    return LayerError(f"cannot be read: {error}", where=path, remedy="the file is damaged or of another kind: "
                      "check it, or get it again")  # fmt: skip


def _pick(values: Any, order: tuple[int, int, int] = (0, 1, 2)) -> Voxels:
    return (int(values[order[0]]), int(values[order[1]]), int(values[order[2]]))
