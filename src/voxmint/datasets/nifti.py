"""A tree of NIfTI files: one file a label volume, one a view, named by the sample's key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from voxmint.datasets.format import Output, array_bytes
from voxmint.datasets.tree import TreeFormat
from voxmint.errors import PlanError
from voxmint.sample import JSON, Sample

PAIR_PATHS = {"seg": "label_ensembles/{key}.nii.gz", "img": "synthesized_views/view{n}/view{n}_{key}.nii.gz"}
"""Where the published scripts put an ensemble and its views."""

_COMPRESSED_SHARE = 0.7
"""Rough size of a noisy ``.nii.gz`` view, compressed over raw; label volumes take a tenth of it."""


@dataclass(frozen=True)
class NiftiFormat(TreeFormat):
    """One NIfTI file an array.

    Parameters
    ----------
    paths, scenarios
        As for `TreeFormat`.
    sform : int
        Code of the affine: 2 (aligned), as published; 1 in data sets that do not say it.

    Notes
    -----
    The affine is the identity, unless the record of a sample states a ``voxel_size`` along (i, j, k), mm.
    """

    paths: Mapping[str, str] = field(default_factory=lambda: dict(PAIR_PATHS))
    sform: int = field(default=2, kw_only=True)
    name: ClassVar[str] = "nifti"
    endings: ClassVar[tuple[str, ...]] = (".nii", ".nii.gz")

    _voxel_size: tuple[float, float, float] = field(default=(1.0, 1.0, 1.0), repr=False, compare=False)

    def spec(self) -> JSON:
        """Return the options as JSON."""
        return {"name": self.name, "paths": dict(self.paths), "sform": self.sform}

    @classmethod
    def from_spec(cls, spec: JSON) -> Self:
        """Build from what `spec` returned."""
        return cls(dict(spec["paths"]), sform=int(spec.get("sform", 1)))

    def check(self, output: Output) -> None:
        """Raise `PlanError` if an array has no path, or is no volume."""
        for name, (shape, _) in output.layout.items():
            path = self.paths.get(name)
            if path is None or len(shape) != (4 if "{n}" in path else 3):
                raise PlanError(f"the array {name!r} has no NIfTI path", where=output.where, got=f"shape {shape}",
                                expected="three axes, or four and a path with {n}")  # fmt: skip

    def remaining_bytes(self, output: Output, done: int) -> int:
        """Return a rough estimate, since compressed sizes are known only afterwards."""
        if output.url is not None:
            return 0
        each = sum(
            array_bytes(shape, dtype) * (_COMPRESSED_SHARE if len(shape) == 4 else _COMPRESSED_SHARE / 10)
            for shape, dtype in output.layout.values()
        )
        return int((output.count - done) * each)

    def file_bytes(self, shape: tuple[int, ...], dtype: str) -> float:
        """Return a rough estimate."""
        return array_bytes(shape, dtype) * _COMPRESSED_SHARE

    def encode(self, array: NDArray[Any], name: str) -> bytes:
        """Return the bytes of a file, compressed if its name ends in ``.gz``."""
        from voxmint.nifti.files import nifti_blocks

        affine = np.diag([*self._voxel_size, 1.0])
        return b"".join(nifti_blocks(array, affine, packed=name.endswith(".gz"), sform=self.sform))

    def decode(self, data: bytes, shape: tuple[int, ...], dtype: str, where: str) -> NDArray[Any]:  # noqa: ARG002
        """Return the array of a file, whose shape is its own."""
        from voxmint.nifti.files import volume_of

        return volume_of(data, where).array

    def _encoded(self, output: Output, sample: Sample) -> Iterator[tuple[str, bytes]]:
        size = sample.record.get("voxel_size")
        sized = self if size is None else replace(self, _voxel_size=tuple(size))
        return super(NiftiFormat, sized)._encoded(output, sample)

    def _is_fixed(self, output: Output) -> bool:  # noqa: ARG002
        return False
