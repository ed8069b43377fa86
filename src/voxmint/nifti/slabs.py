"""A NIfTI file as a stream of slabs, so that what is read takes no more memory than what is kept of it.

A header is checked before anything is allocated for it, and a gzip stream is unpacked into the claimed size at most and
read to its end, so that its checksum and length count. Unpacking is ISA-L's, several times faster than zlib.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import InputError
from voxmint.files import reading
from voxmint.nifti.gunzip import gunzipped
from voxmint.nifti.header import DAMAGED, Header, parse_header
from voxmint.nifti.memory import memory_told

MAX_VOXELS = 2**31
"""Default cap on the voxels of one file."""
MAX_LABEL = 2**32 - 1
_DEFLATE_LIMIT = 1032  # the largest expansion that deflate can reach
_SLAB = 1 << 20  # voxels
_SLACK = 1 << 20  # bytes tolerated after the last voxel: some writers pad


@dataclass(frozen=True)
class Slab:
    """A box of voxels that lie one after the other in a file.

    Attributes
    ----------
    array : ndarray
        Voxels, axes (i, j, k), in Fortran order; read-only where nothing had to be converted.
    start : tuple of int
        Its first voxel.
    header : Header
        Of the file.
    """

    array: NDArray[Any]
    start: tuple[int, int, int]
    header: Header

    @property
    def box(self) -> tuple[slice, ...]:
        """Where it lies in the volume."""
        return tuple(slice(a, a + n) for a, n in zip(self.start, self.array.shape, strict=True))


def slabs(path: Path, max_voxels: int = MAX_VOXELS) -> Iterator[Slab]:
    """Read a volume, in the file's order, as slabs of stored numbers.

    Raises
    ------
    InputError
        See `voxmint.nifti.files.read_labels`.
    """
    with reading(path, InputError, "a .nii or .nii.gz file") as file:
        yield from slabs_of(file, os.fstat(file.fileno()).st_size, path, max_voxels)


def slabs_of(file: IO[bytes], size: int, path: Path, max_voxels: int = MAX_VOXELS) -> Iterator[Slab]:
    """Do the same with an open file of ``size`` bytes; ``path`` names it in errors."""
    with memory_told(path), gunzipped(file, path) as stream:
        header = parse_header(stream.read(540), path)
        expansion = 1 if stream is file else _DEFLATE_LIMIT
        _check_claim(header, path, max_voxels, size * expansion)
        stream.seek(header.offset)
        for start, shape in _pieces(header.shape, _SLAB):
            yield Slab(_next_piece(stream, shape, start, header, path), start, header)
        if stream is not file and len(stream.read(_SLACK)) == _SLACK:
            raise InputError("unpacks to more bytes than its header claims", where=path, remedy=DAMAGED)


def label_slabs(path: Path, max_voxels: int = MAX_VOXELS) -> Iterator[Slab]:
    """Read a label volume as slabs, each in the smallest unsigned integer type that holds its labels.

    Raises
    ------
    InputError
        See `voxmint.nifti.files.read_labels`.
    """
    for slab in slabs(path, max_voxels):
        if slab.array.dtype == np.uint8 and not slab.header.scaled:
            yield slab
            continue
        values = _label_values(slab.array, slab.header)
        largest = _check_labels(values, slab, path)
        yield replace(slab, array=values.astype(np.min_scalar_type(largest), copy=False))


def _pieces(shape: tuple[int, int, int], most: int) -> Iterator[tuple[tuple[int, int, int], tuple[int, int, int]]]:
    """Cut a volume in Fortran order into boxes that are contiguous: some slices, else rows, else parts of a row."""
    ni, nj, nk = shape
    si, sj, sk = min(ni, most), min(nj, max(1, most // ni)), min(nk, max(1, most // (ni * nj)))
    for k in range(0, nk, sk):
        for j in range(0, nj, sj):
            for i in range(0, ni, si):
                yield (i, j, k), (min(si, ni - i), min(sj, nj - j), min(sk, nk - k))


def _next_piece(
    stream: IO[bytes], shape: tuple[int, int, int], start: tuple[int, int, int], header: Header, path: Path
) -> NDArray[Any]:
    size = header.dtype.itemsize
    needed = shape[0] * shape[1] * shape[2] * size
    data = stream.read(needed)
    if len(data) < needed:
        before = size * _position(start, header)
        raise InputError("the file ends too early", where=path, remedy=DAMAGED, got=f"{before + len(data)}",
                         expected=f"{size * header.voxels} bytes of voxels")  # fmt: skip
    array = np.frombuffer(data, header.dtype).reshape(shape, order="F")
    return array.astype(header.dtype.newbyteorder("="), copy=False)


def _position(start: tuple[int, ...], header: Header) -> int:
    return start[0] + header.shape[0] * (start[1] + header.shape[1] * start[2])


def _check_claim(header: Header, path: Path, max_voxels: int, available: int) -> None:
    size = " x ".join(map(str, header.shape))
    if header.voxels > max_voxels:
        raise InputError("the header claims too many voxels", where=path, expected=f"at most {max_voxels}",
                         got=f"{header.voxels} ({size})", remedy=DAMAGED)  # fmt: skip
    needed = header.offset + header.voxels * header.dtype.itemsize
    if needed > available:
        raise InputError("the header claims more voxels than the file can hold", where=path,
                         expected=f"{needed} bytes for {size} voxels of {header.dtype.name}",
                         got=f"at most {available}", remedy=DAMAGED)  # fmt: skip


def _label_values(raw: NDArray[Any], header: Header) -> NDArray[Any]:
    if not header.scaled:
        return raw
    # slope and intercept are float32 in the file: what they miss of an integer is theirs, not the label's
    values = raw * np.float64(header.slope) + header.inter
    nearest = np.rint(values)
    return np.where(np.abs(values - nearest) <= 1e-5 * np.maximum(1.0, np.abs(nearest)), nearest, values)


def _check_labels(values: NDArray[Any], slab: Slab, path: Path) -> int:
    """Return the largest label."""
    if values.dtype.kind == "f":
        wrong = ~((values >= 0) & (values <= MAX_LABEL))  # also true for NaN
        wrong |= values != np.rint(values)
    elif int(values.min()) < 0 or int(values.max()) > MAX_LABEL:
        wrong = (values < 0) | (values > MAX_LABEL)
    else:
        return int(values.max())
    if wrong.any():
        first = int(np.argmax(wrong.reshape(-1, order="F")))
        inside = np.unravel_index(first, values.shape, order="F")
        place = tuple(int(a + n) for a, n in zip(slab.start, inside, strict=True))
        raise InputError("holds a value that is no label", where=path, expected=f"integers from 0 to {MAX_LABEL}",
                         got=f"{values[inside]} at voxel {place}",
                         remedy="use a label file (not an image or probabilities), or round it first")  # fmt: skip
    return int(values.max())
