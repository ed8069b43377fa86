"""A tree of NIfTI files: one file a label volume, one a view, named by the sample's key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from voxmint.datasets.format import Target, array_bytes
from voxmint.errors import PlanError
from voxmint.files import file_entry, storage_errors, sync_directory
from voxmint.sample import JSON, Sample

PAIR_PATHS = {"seg": "label_ensembles/{key}.nii.gz", "img": "synthesized_views/view{n}/view{n}_{key}.nii.gz"}
"""Where the published scripts put an ensemble and its views."""

_COMPRESSED_SHARE = 0.7
"""Rough size of a noisy ``.nii.gz`` view, compressed over raw; label volumes take a tenth of it."""


@dataclass(frozen=True)
class NiftiFormat:
    """One NIfTI file an array; identity affine.

    Parameters
    ----------
    paths : mapping of str to str
        For each array the file below the target's directory. ``{key}`` is the sample's key; ``{n}`` counts from 1 over
        the first axis of a 4D array, each part being a file.
    """

    paths: Mapping[str, str] = field(default_factory=lambda: dict(PAIR_PATHS))
    name: ClassVar[str] = "nifti"

    def __post_init__(self) -> None:
        for array, path in self.paths.items():
            parts = PurePosixPath(path).parts
            if "{key}" not in path or path.startswith("/") or ".." in parts or not path.endswith((".nii", ".nii.gz")):
                raise PlanError(
                    "unusable path of NIfTI files",
                    where=array,
                    got=path,
                    expected="a relative path with {key}, without .., ending in .nii or .nii.gz",
                )

    def spec(self) -> JSON:
        """Return the options as JSON."""
        return {"name": self.name, "paths": dict(self.paths)}

    @classmethod
    def from_spec(cls, spec: JSON) -> Self:
        """Build from what `spec` returned."""
        return cls(dict(spec["paths"]))

    def check(self, target: Target) -> None:
        """Raise `PlanError` if an array has no path, or is no volume."""
        for name, (shape, _) in target.layout.items():
            path = self.paths.get(name)
            if path is None or len(shape) != (4 if "{n}" in path else 3):
                raise PlanError(
                    f"the array {name!r} has no NIfTI path",
                    where=target.directory,
                    got=f"shape {shape}",
                    expected="three axes, or four and a path with {n}",
                )

    def present(self, target: Target) -> list[Path]:
        """Return which files of this tree exist already."""
        return [path for pattern in self._patterns() for path in sorted(target.directory.glob(pattern))]

    def remaining_bytes(self, target: Target, done: int) -> int:
        """Return a rough estimate, since compressed sizes are known only afterwards."""
        one = sum(
            array_bytes(shape, dtype) * (_COMPRESSED_SHARE if len(shape) == 4 else _COMPRESSED_SHARE / 10)
            for shape, dtype in target.layout.values()
        )
        return int((target.count - done) * one)

    def begin(self, target: Target) -> None:
        """Make the folders."""
        for folder in self._folders(target):
            with storage_errors(folder, "making the folder"):
                folder.mkdir(parents=True, exist_ok=True)

    def write(self, target: Target, sample: Sample) -> list[JSON]:
        """Write each file under a temporary name, flush and rename it."""
        from voxmint.nifti.files import write_nifti

        written = []
        for name, paths in self.files(target, sample.index, sample.key).items():
            array = sample.arrays[name]
            for path, volume in zip(paths, array if array.ndim == 4 else [array], strict=True):
                write_nifti(path, volume)
                written.append(file_entry(target.directory, path))
        return written

    def stored(self, target: Target, files: list[JSON]) -> bool:
        """Tell whether all files are there with their sizes."""
        if len(files) != sum(len(paths) for paths in self.files(target, 0, "key").values()):
            return False
        paths = [(target.directory / str(file["file"]), file["bytes"]) for file in files]
        return all(path.is_file() and path.stat().st_size == size for path, size in paths)

    def sync(self, target: Target) -> None:
        """Make the renames last; the files' data were flushed one by one."""
        for folder in self._folders(target):
            with storage_errors(folder, "flushing to the disk"):
                sync_directory(folder)

    def commit(self, target: Target) -> list[JSON]:
        """Flush the folders; every file has its final name already."""
        self.sync(target)
        return []

    def cleanup(self, target: Target) -> None:
        """Remove temporary files that killed workers left."""
        for pattern in self._patterns():
            folder, _, name = pattern.rpartition("/")
            for path in target.directory.glob(f"{folder}/.{name}.*.part" if folder else f".{name}.*.part"):
                path.unlink(missing_ok=True)

    def entry(self, target: Target, file: JSON) -> JSON:
        """Return size and SHA-256 of the file as it is now."""
        return file_entry(target.directory, target.directory / str(file["file"]))

    def files(self, target: Target, index: int, key: str) -> dict[str, list[Path]]:  # noqa: ARG002
        """Return the files of each array."""
        found = {}
        for name, path in self.paths.items():
            shape = target.layout.get(name, ((), ""))[0]
            numbers = range(1, shape[0] + 1) if "{n}" in path else range(1)
            found[name] = [target.directory / path.format(key=key, n=n) for n in numbers]
        return found

    def read(self, target: Target, index: int, key: str) -> dict[str, NDArray[Any]]:
        """Return the arrays, the files of a 4D one stacked along its first axis."""
        from voxmint.nifti.files import read_volume

        arrays = {}
        for name, paths in self.files(target, index, key).items():
            volumes = [read_volume(path).array for path in paths]
            arrays[name] = np.stack(volumes) if "{n}" in self.paths[name] else volumes[0]
        return arrays

    def _patterns(self) -> list[str]:
        return [path.format(key="*", n="*") for path in self.paths.values()]

    def _folders(self, target: Target) -> list[Path]:
        return sorted({path.parent for paths in self.files(target, 0, "key").values() for path in paths})
