"""A tree of plain ``.npy`` files, one an array; instances under the published names.

A file's header is fixed by the array's shape and type, and written here byte for byte: NumPy's own differs between its
releases. So a file is compared as a whole when it is read, and no header is ever trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from voxmint.datasets.format import AXES, Output, array_bytes, checked_axes
from voxmint.datasets.tree import TreeFormat
from voxmint.errors import InputError, PlanError
from voxmint.sample import JSON

INSTANCE_PATHS = {
    "source": "source/source_{id}.npy",
    "target": "gt/target_{id}.npy",
    "seed": "target/augmented_target_{key}.npy",
    "valid": "valid/valid_{id}.npy",
}
"""Where the published generator puts image, mask and mask on a few slices; the scenario is in the last one's name."""
OTHER_PATH = "{name}/{name}_{key}.npy"
"""Where any other array goes."""


@dataclass(frozen=True)
class NpyFormat(TreeFormat):
    """One ``.npy`` file an array, which `numpy.load` opens anywhere; parameters are those of `TreeFormat`.

    With ``axes`` ``xyz`` the files hold the arrays with all axes the other way round; `read` turns them back.
    """

    paths: Mapping[str, str] = field(default_factory=lambda: dict(INSTANCE_PATHS))
    axes: str = AXES[0]
    name: ClassVar[str] = "npy"
    endings: ClassVar[tuple[str, ...]] = (".npy",)

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_axes(self.axes)

    def spec(self) -> JSON:
        """Return the options as JSON."""
        return super().spec() | ({"axes": self.axes} if self.axes != AXES[0] else {})

    @classmethod
    def from_spec(cls, spec: JSON) -> Self:
        """Build from what `spec` returned."""
        return replace(super().from_spec(spec), axes=str(spec.get("axes", AXES[0])))

    def check(self, output: Output) -> None:
        """Raise `PlanError` if the samples differ in shape, `StorageError` if the place is no usable address."""
        if not output.layout:
            raise PlanError("the npy format needs samples of one fixed shape", where=output.where,
                            remedy="crop all samples to one size")  # fmt: skip
        assert output.place is not None, "opening it is the check"

    def path(self, array: str) -> str:
        """Return the path of an array's file; arrays without one have a folder of their name."""
        return self.paths.get(array, OTHER_PATH.replace("{name}", array))

    def file_bytes(self, shape: tuple[int, ...], dtype: str) -> float:
        """Return how large a file is."""
        return array_bytes(shape, dtype) + len(npy_header(shape, dtype))

    def encode(self, array: NDArray[Any], name: str) -> bytes:  # noqa: ARG002
        """Return the bytes of a file."""
        array = array if self.axes == AXES[0] else array.T
        return npy_header(array.shape, array.dtype.str) + array.tobytes()

    def decode(self, data: bytes, shape: tuple[int, ...], dtype: str, where: str) -> NDArray[Any]:
        """Return the array of a file."""
        shape = shape if self.axes == AXES[0] else shape[::-1]
        header = npy_header(shape, dtype)
        size = len(header) + array_bytes(shape, dtype)
        if not data.startswith(header) or len(data) != size:
            raise InputError("not the .npy file that was written", where=where, got=f"{len(data):,} bytes",
                             expected=f"{dtype} {shape}, {size:,} bytes",
                             remedy="make the data set again, or restore the file")  # fmt: skip
        array = np.frombuffer(data, np.dtype(dtype).newbyteorder("<"), offset=len(header)).reshape(shape)
        return array if self.axes == AXES[0] else array.T


def npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    """Return the header of a C-ordered little-endian array, format version 1.0, padded so that data start at 64 n."""
    text = f"{{'descr': '{np.dtype(dtype).newbyteorder('<').str}', 'fortran_order': False, 'shape': {tuple(shape)}, }}"
    padding = -(10 + len(text) + 1) % 64
    body = f"{text}{' ' * padding}\n".encode("latin1")
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body
