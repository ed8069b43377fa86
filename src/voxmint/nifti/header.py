"""NIfTI headers, NIfTI-1 and NIfTI-2 in either byte order: what they claim, checked before anything trusts it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import InputError

_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_REFUSED = {1: "1-bit", 32: "complex", 128: "RGB", 1536: "128-bit float", 1792: "complex", 2304: "RGBA"}
DAMAGED = "the file is damaged or no NIfTI file: get it again from its source"


@dataclass(frozen=True)
class Header:
    """What of a header matters: axes (i, j, k), type with byte order, start of the voxels, scaling and affine."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float
    affine: NDArray[np.float64]

    @property
    def voxels(self) -> int:
        """How many there are."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def scaled(self) -> bool:
        """Whether stored numbers are not the values themselves."""
        return (self.slope, self.inter) != (1.0, 0.0)


def parse_header(block: bytes, path: Path) -> Header:
    """Read the first bytes of a file.

    Raises
    ------
    InputError
        They are no header of one 3D volume of numbers with a usable affine.
    """
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError

    kinds: dict[int, Any] = {348: (Nifti1Header, 344, b"n+1\0"), 540: (Nifti2Header, 4, b"n+2\0")}
    orders: tuple[Literal["little", "big"], ...] = ("little", "big")
    order = next((order for order in orders if int.from_bytes(block[:4], order) in kinds), None)
    size = 0 if order is None else int.from_bytes(block[:4], order)
    if order is None or len(block) < size:
        raise InputError("not a NIfTI file", where=path, expected="a header of 348 (NIfTI-1) or 540 bytes (NIfTI-2)",
                         got=f"{len(block)} bytes starting with {block[:4]!r}", remedy=DAMAGED)  # fmt: skip
    kind, position, magic = kinds[size]
    if block[position : position + 4] != magic:
        raise InputError("wrong magic", where=path, expected=magic, got=block[position : position + 4],
                         remedy="convert the file to a single-file .nii or .nii.gz")  # fmt: skip
    raw = kind(block[:size], endianness="<" if order == "little" else ">", check=False)
    offset = float(raw["vox_offset"])
    if not size <= offset <= 2**31:
        raise InputError("wrong start of the voxels in the header", where=path, expected=f"vox_offset from {size}",
                         got=offset, remedy=DAMAGED)  # fmt: skip
    slope, inter = float(raw["scl_slope"]), float(raw["scl_inter"])
    if slope == 0 or np.isnan(slope):  # by definition: the data are not scaled
        slope, inter = 1.0, 0.0
    if not np.isfinite([slope, inter]).all():
        raise InputError("the header's scaling is not finite", where=path, got=f"slope {slope}, intercept {inter}",
                         remedy=DAMAGED)  # fmt: skip
    try:
        affine = np.asarray(raw.get_best_affine(), np.float64)
    except (HeaderDataError, ValueError) as error:
        raise InputError(f"unusable affine: {error}", where=path, remedy=DAMAGED) from error
    _check_affine(affine, path)
    return Header(_shape(raw["dim"], path), _dtype(raw, path), int(offset), slope, inter, affine)


def _shape(dim: NDArray[Any], path: Path) -> tuple[int, int, int]:
    count, sizes = int(dim[0]), [int(n) for n in dim[1:]]
    shown = f"{count} axes, {' x '.join(map(str, sizes[: min(max(count, 0), 7)]))}"
    if count not in (3, 4) or (count == 4 and sizes[3] != 1):
        raise InputError("not one 3D volume", where=path, expected="3 axes, or 4 of which the last has length 1",
                         got=shown, remedy="split series and vector data into single 3D volumes")  # fmt: skip
    if min(sizes[:3]) <= 0:
        raise InputError("an axis of the header has no length", where=path, expected="positive lengths", got=shown,
                         remedy=DAMAGED)  # fmt: skip
    return sizes[0], sizes[1], sizes[2]


def _dtype(raw: Any, path: Path) -> np.dtype[Any]:
    code = int(raw["datatype"])
    if code not in _DTYPES:
        raise InputError("unsupported data type", where=path, expected="integers or floats of 8 to 64 bits",
                         got=f"{_REFUSED.get(code, 'unknown')} (code {code})",
                         remedy="convert the file to integer labels")  # fmt: skip
    return np.dtype(_DTYPES[code]).newbyteorder(raw.endianness)


def voxel_size(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the lengths of an affine's first three columns."""
    size = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return float(size[0]), float(size[1]), float(size[2])


def _check_affine(affine: NDArray[np.float64], path: Path) -> None:
    size = np.array(voxel_size(affine))
    bad = "NaN or infinite values" if not np.isfinite(affine).all() or not np.isfinite(size).all() else None
    if bad is None and (not size.all() or abs(np.linalg.det(affine[:3, :3] / size)) < 1e-6):
        bad = "a singular matrix"
    if bad is not None:
        raise InputError("unusable affine", where=path, expected="a finite, invertible matrix",
                         got=f"{bad}: {affine[:3].tolist()}", remedy="correct the file's sform or qform")  # fmt: skip
