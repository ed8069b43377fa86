"""NIfTI files, read with distrust and written atomically.

A header is checked before anything is allocated for it, and a gzip stream is unpacked into the claimed size at most and
read to its end, so that its checksum and length count. Unpacking is ISA-L's, several times faster than zlib.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import InputError
from voxmint.files import atomic_file
from voxmint.nifti.gunzip import Unpacker
from voxmint.nifti.header import DAMAGED, Header, parse_header, voxel_size

MAX_VOXELS = 2**31
"""Default cap on the voxels of one file."""
MAX_LABEL = 2**32 - 1
_DEFLATE_LIMIT = 1032  # the largest expansion that deflate can reach
_CHUNK = 1 << 20
# measured on a 128-cubed label volume: levels 0 to 2 take the same 5 ms, 0 makes it a fifth larger; 3 takes three times
# as long for four per cent
_GZIP_LEVEL = 2


@dataclass(frozen=True)
class Volume:
    """A volume and where it lies.

    Attributes
    ----------
    array : ndarray
        Voxels, axes (i, j, k), in the file's own (Fortran) order in memory.
    affine : (4, 4) float64
        Voxel indices to millimetres.
    voxel_size_mm : tuple of float
        Lengths of the affine's first three columns.
    scaling : tuple of float
        Slope and intercept that stored values were scaled with.
    digest : str
        The first 16 digits of the file's SHA-256, as it was read.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]
    voxel_size_mm: tuple[float, float, float]
    scaling: tuple[float, float] = (1.0, 0.0)
    digest: str = ""


@dataclass(frozen=True)
class LabelVolume(Volume):
    """A volume of labels; ``array`` has the smallest unsigned integer type that holds them."""


def read_labels(path: str | Path, *, max_voxels: int = MAX_VOXELS) -> LabelVolume:
    """Read a label volume or binary mask.

    Parameters
    ----------
    path : path
        A ``.nii`` or ``.nii.gz`` file.
    max_voxels : int
        Files that claim more are refused before anything is allocated.

    Returns
    -------
    LabelVolume
        Labels as uint8, uint16 or uint32, axes (i, j, k).

    Raises
    ------
    InputError
        The file is missing, cut, corrupt, of another kind, too large, has no usable affine, or holds values that are
        no labels (NaN, fractional, negative, above 2**32 - 1).
    """
    header, values, digest = _read(Path(path), max_voxels)
    labels, scaling = _as_labels(values, header, Path(path)), (header.slope, header.inter)
    return LabelVolume(labels, header.affine, voxel_size(header.affine), scaling, digest)


def read_volume(path: str | Path, *, max_voxels: int = MAX_VOXELS) -> Volume:
    """Read an image volume; integers and floats stay as they are, scaled data become float64.

    Parameters and errors are those of `read_labels`, except that any value is allowed.
    """
    header, values, digest = _read(Path(path), max_voxels)
    if header.scaled:
        values = values * np.float64(header.slope) + header.inter
    return Volume(values, header.affine, voxel_size(header.affine), (header.slope, header.inter), digest)


def write_nifti(path: str | Path, array: NDArray[Any], affine: NDArray[np.float64] | None = None) -> None:
    """Write a volume atomically; equal input gives equal bytes.

    Parameters
    ----------
    path : path
        Compressed if the name ends in ``.gz``. The folder must exist.
    array : (i, j, k) ndarray
        Integers, floats or booleans (written as uint8).
    affine : (4, 4) array, optional
        Voxel indices to millimetres; the identity by default.

    Raises
    ------
    StorageError
        The file cannot be written; nothing is left under ``path`` that was not there before.
    """
    with atomic_file(path) as file:
        for block in nifti_blocks(array, affine, packed=str(path).endswith(".gz")):
            file.write(block)


def nifti_blocks(
    array: NDArray[Any], affine: NDArray[np.float64] | None = None, *, packed: bool = True
) -> Iterator[bytes]:
    """Yield the bytes of the file that `write_nifti` writes, piece by piece."""
    from isal import isal_zlib
    from nibabel import nifti1

    array = np.asarray(array)
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    header: Any = nifti1.Nifti1Header(endianness="<")  # type: ignore[no-untyped-call]
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    matrix = np.eye(4) if affine is None else np.asarray(affine, np.float64)
    header.set_qform(matrix, code="unknown")
    header.set_sform(matrix, code="scanner")
    header.set_slope_inter(1.0, 0.0)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    slab = max(1, _CHUNK // max(1, array.itemsize * array.shape[0] * array.shape[1]))
    compressor = isal_zlib.compressobj(_GZIP_LEVEL, wbits=31) if packed else None
    for block in (
        header.binaryblock + bytes(4),
        *(array[:, :, k : k + slab].tobytes("F") for k in range(0, array.shape[2], slab)),
    ):
        yield block if compressor is None else compressor.compress(block)
    if compressor is not None:
        yield compressor.flush()


def volume_of(data: bytes, where: str | Path) -> Volume:
    """Return the image volume of a file's bytes; ``where`` names it in errors, which are those of `read_volume`."""
    header, values, _ = _read_from(BytesIO(data), len(data), Path(where), MAX_VOXELS)
    if header.scaled:
        values = values * np.float64(header.slope) + header.inter
    return Volume(values, header.affine, voxel_size(header.affine))


def _read(path: Path, max_voxels: int) -> tuple[Header, NDArray[Any], str]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError("not a regular file", where=path, expected="a .nii or .nii.gz file")
        with path.open("rb") as file:
            return _read_from(file, path.stat().st_size, path, max_voxels)
    except FileNotFoundError as error:
        raise InputError("no such file", where=path, remedy="correct the path") from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=path,
                         remedy="check the file's permissions and the disk") from error  # fmt: skip


def _read_from(file: IO[bytes], length: int, path: Path, max_voxels: int) -> tuple[Header, NDArray[Any], str]:
    stream = Unpacker(file, path)
    block = stream.read(540)
    header = parse_header(block, path)
    values = _allocate(header, path, max_voxels, length * (_DEFLATE_LIMIT if stream.packed else 1))
    read = bytearray(block)
    while len(read) < header.offset and (more := stream.read(min(_CHUNK, header.offset - len(read)))):
        read += more
    memory = memoryview(values.data)
    early = read[header.offset : header.offset + values.size]
    memory[: len(early)] = early
    filled = len(early) + stream.read_into(memory[len(early) :])
    if filled < values.size:
        raise InputError("the file ends too early", where=path, expected=f"{values.size} bytes of voxels",
                         got=f"{filled}", remedy=DAMAGED)  # fmt: skip
    stream.finish()
    array = values.view(header.dtype).reshape(header.shape, order="F")
    if not header.dtype.isnative:
        array = array.byteswap(inplace=True).view(header.dtype.newbyteorder("="))
    return header, array, stream.digest


def _allocate(header: Header, path: Path, max_voxels: int, available: int) -> NDArray[np.uint8]:
    voxels = header.shape[0] * header.shape[1] * header.shape[2]
    size = " x ".join(map(str, header.shape))
    if voxels > max_voxels:
        raise InputError("the header claims too many voxels", where=path, expected=f"at most {max_voxels}",
                         got=f"{voxels} ({size})", remedy=DAMAGED)  # fmt: skip
    needed = header.offset + voxels * header.dtype.itemsize
    if needed > available:
        raise InputError("the header claims more voxels than the file can hold", where=path,
                         expected=f"{needed} bytes for {size} voxels of {header.dtype.name}",
                         got=f"at most {available}", remedy=DAMAGED)  # fmt: skip
    try:
        return np.empty(voxels * header.dtype.itemsize, np.uint8)
    except MemoryError as error:
        raise InputError("not enough memory for this volume", where=path, got=f"{needed} bytes ({size} voxels)",
                         remedy="use a machine with more memory, or crop the volume") from error  # fmt: skip


def _as_labels(values: NDArray[Any], header: Header, path: Path) -> NDArray[Any]:
    if values.dtype == np.uint8 and not header.scaled:
        return values
    flat = values.reshape(-1, order="F")
    starts = range(0, flat.size, _CHUNK)
    largest = max(_check_labels(_label_values(flat[s : s + _CHUNK], header), s, header, path) for s in starts)
    dtype = np.min_scalar_type(largest)
    if dtype == values.dtype and not header.scaled:
        return values
    labels = np.empty(flat.size, dtype)
    for start in starts:
        labels[start : start + _CHUNK] = _label_values(flat[start : start + _CHUNK], header)
    return labels.reshape(header.shape, order="F")


def _label_values(raw: NDArray[Any], header: Header) -> NDArray[Any]:
    if not header.scaled:
        return raw
    # slope and intercept are float32 in the file: what they miss of an integer is theirs, not the label's
    values = raw * np.float64(header.slope) + header.inter
    nearest = np.rint(values)
    return np.where(np.abs(values - nearest) <= 1e-5 * np.maximum(1.0, np.abs(nearest)), nearest, values)


def _check_labels(values: NDArray[Any], start: int, header: Header, path: Path) -> int:
    if values.dtype.kind == "f":
        wrong = ~((values >= 0) & (values <= MAX_LABEL))  # also true for NaN
        wrong |= values != np.rint(values)
    elif int(values.min()) < 0 or int(values.max()) > MAX_LABEL:
        wrong = (values < 0) | (values > MAX_LABEL)
    else:
        return int(values.max())
    if wrong.any():
        first = int(np.argmax(wrong))
        place = tuple(int(n) for n in np.unravel_index(start + first, header.shape, order="F"))
        raise InputError("holds a value that is no label", where=path, expected=f"integers from 0 to {MAX_LABEL}",
                         got=f"{values[first]} at voxel {place}",
                         remedy="use a label file (not an image or probabilities), or round it first")  # fmt: skip
    return int(values.max())
