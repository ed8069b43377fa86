"""A tree of files, one or more a sample: what all such formats share, in a folder or in a bucket."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from voxmint.datasets.format import Output
from voxmint.errors import PlanError, StorageError
from voxmint.files import storage_errors, sync_directory
from voxmint.sample import JSON, Sample, little_endian

_RECIPE = "recipe.yaml"
_REMEMBERED = 64


@dataclass(frozen=True)
class TreeFormat(ABC):
    """Files named by the sample's key, each written whole or not at all.

    Parameters
    ----------
    paths : mapping of str to str
        For each array its file below the data set's place. ``{key}`` is the sample's key, ``{n}`` counts from 1 over
        the first axis of the array, each part being a file.
    scenarios : int
        How many samples in a row share what a path with ``{id}`` names: their keys end in ``_0``, ``_1``, ..., and
        ``{id}`` is the key without this end. With one there is no such end, and ``{id}`` is the key.
    """

    paths: Mapping[str, str]
    scenarios: int = 1
    name: ClassVar[str]
    needs_key: ClassVar[bool] = True
    endings: ClassVar[tuple[str, ...]]
    _shared: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Digests of the shared files that this process wrote last: the next scenario need not write them again."""

    def __post_init__(self) -> None:
        if self.scenarios < 1:
            raise PlanError("wrong number of scenarios", expected="at least 1", got=self.scenarios)
        for array, path in self.paths.items():
            parts = PurePosixPath(path).parts
            named = "{key}" in path or "{id}" in path
            if not named or path.startswith("/") or ".." in parts or not path.endswith(self.endings):
                raise PlanError(f"unusable path of {self.name} files", where=array, got=path,
                                expected="a relative path with {key} or {id}, without .., ending in "
                                         + " or ".join(self.endings))  # fmt: skip

    @abstractmethod
    def encode(self, array: NDArray[Any], name: str) -> bytes:
        """Return the bytes of the file ``name``."""

    @abstractmethod
    def decode(self, data: bytes, shape: tuple[int, ...], dtype: str, where: str) -> NDArray[Any]:
        """Return the array of a file; raise `InputError` if it is not the file that `encode` makes of one."""

    @abstractmethod
    def file_bytes(self, shape: tuple[int, ...], dtype: str) -> float:
        """Return how large a file is, as far as that is known."""

    def spec(self) -> JSON:
        """Return the options as JSON."""
        return {"name": self.name, "scenarios": self.scenarios, "paths": dict(self.paths)}

    @classmethod
    def from_spec(cls, spec: JSON) -> Self:
        """Build from what `spec` returned."""
        return cls(paths=dict(spec["paths"]), scenarios=int(spec.get("scenarios", 1)))

    def check(self, output: Output) -> None:
        """Raise `PlanError` if an array has no path or none that suits it."""
        for name, (shape, _) in output.layout.items():
            if not shape or (len(shape) < 2 and "{n}" in self.path(name)):
                raise PlanError(f"the array {name!r} has no {self.name} path", where=output.where, got=f"shape {shape}")

    def present(self, output: Output) -> Iterator[str]:
        """Yield the names of files of this tree that exist already."""
        patterns = [re.compile(fnmatch.translate(pattern)) for pattern in self._patterns(output)]
        for folder in self._folders(output):
            for name in output.place.walk(folder):
                if name.rpartition("/")[0] == folder and any(pattern.match(name) for pattern in patterns):
                    yield name

    def remaining_bytes(self, output: Output, done: int) -> int:
        """Return the size of all files to come, 0 when they go elsewhere."""
        if output.url is not None:
            return 0
        each = 0.0
        for name, (shape, dtype) in output.layout.items():
            shared = self.scenarios if "{key}" not in self.path(name) else 1
            parts = shape[0] if "{n}" in self.path(name) else 1
            each += parts * self.file_bytes(shape[1:] if "{n}" in self.path(name) else shape, dtype) / shared
        return int((output.count - done) * each)

    def begin(self, output: Output) -> None:
        """Make the folders; take possession of a bucket, unless another data set has it."""
        if output.url is None:
            for folder in self._folders(output):
                path = output.directory / folder
                with storage_errors(path, "making the folder"):
                    path.mkdir(parents=True, exist_ok=True)
            return
        place, ours = output.place, output.note.encode()
        if not place.exists(_RECIPE):
            place.write(_RECIPE, ours)
        elif place.read(_RECIPE) != ours:
            raise PlanError("the place holds another data set", where=f"{place.url}/{_RECIPE}",
                            expected="the same recipe, count and format",
                            remedy="choose another place, or the same recipe")  # fmt: skip

    def write(self, output: Output, sample: Sample) -> list[JSON]:
        """Write each file, whole or not at all; to a bucket, which answers late, all at a time."""
        place, files = output.place, dict(self._encoded(output, sample))
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}

        def put(name: str) -> None:
            if self._shared.get(name) != digests[name] or not place.exists(name):
                place.write(name, files[name])

        if place.is_local:
            for name in files:
                put(name)
        else:
            with ThreadPoolExecutor(len(files)) as threads:
                for _ in threads.map(put, files):
                    pass
        for array, names in self.files(output, sample.index, sample.key).items():
            if self.scenarios > 1 and "{key}" not in self.path(array):
                for name in names:
                    self._remember(name, digests[name])
        return [
            {"file": name, "bytes": len(data), "covers": "file", "sha256": digests[name]}
            for name, data in files.items()
        ]

    def stored(self, output: Output, files: list[JSON]) -> bool:
        """Tell whether all files are there with their sizes; those in a bucket are only known by what was sent."""
        if output.url is not None:
            return True
        if len(files) != sum(len(names) for names in self.files(output, 0, "key").values()):
            return False
        return all(output.place.size(str(file["file"])) == file["bytes"] for file in files)

    def sync(self, output: Output) -> None:
        """Make the renames last; the files' data were flushed one by one."""
        for folder in self._folders(output) if output.url is None else ():
            path = output.directory / folder
            with storage_errors(path, "flushing to the disk"):
                sync_directory(path)

    def commit(self, output: Output) -> list[JSON]:
        """Flush the folders; every file has its final name already."""
        self.sync(output)
        return []

    def cleanup(self, output: Output) -> None:
        """Remove temporary files that killed workers left."""
        for pattern in self._patterns(output) if output.url is None else ():
            folder, slash, name = pattern.rpartition("/")
            for path in output.directory.glob(f"{folder}{slash}.{name}.*.part"):
                path.unlink(missing_ok=True)

    def entry(self, output: Output, file: JSON) -> JSON:
        """Return size and SHA-256 of the file as it is now."""
        return output.place.entry(str(file["file"]))

    def files(self, output: Output, index: int, key: str) -> dict[str, list[str]]:  # noqa: ARG002
        """Return the names of each array's files."""
        shared = key.rpartition("_")[0] if self.scenarios > 1 else key
        found = {}
        for array in self._arrays(output):
            path, shape = self.path(array), output.layout.get(array, ((), ""))[0]
            numbers = range(1, shape[0] + 1) if "{n}" in path and shape else range(1)
            found[array] = [path.format(key=key, id=shared, n=n) for n in numbers]
        return found

    def read(self, output: Output, index: int, key: str) -> dict[str, NDArray[Any]]:
        """Return the arrays.

        Raises
        ------
        InputError
            A file is cut, or of another shape or type.
        StorageError
            A file is missing or cannot be read.
        """
        place, arrays = output.place, {}
        for array, names in self.files(output, index, key).items():
            shape, dtype = output.layout.get(array, ((), ""))
            parted = "{n}" in self.path(array)
            parts = [
                self.decode(place.read(name), shape[1:] if parted else shape, dtype, f"{place.url}/{name}")
                for name in names
            ]
            arrays[array] = np.stack(parts) if parted else parts[0]
        return arrays

    def path(self, array: str) -> str:
        """Return the path of an array's file."""
        return self.paths[array]

    def _arrays(self, output: Output) -> list[str]:
        return sorted(output.layout or self.paths)

    def _folders(self, output: Output) -> list[str]:
        names = (name for names in self.files(output, 0, "key").values() for name in names)
        return sorted({name.rpartition("/")[0] for name in names})

    def _patterns(self, output: Output) -> list[str]:
        return [self.path(array).format(key="*", id="*", n="*") for array in self._arrays(output)]

    def _encoded(self, output: Output, sample: Sample) -> Iterator[tuple[str, bytes]]:
        for array, names in self.files(output, sample.index, sample.key).items():
            values = little_endian(sample.arrays[array])
            shape, dtype = output.layout.get(array, (values.shape, values.dtype.str))
            if values.shape != shape and "{n}" not in self.path(array) and self._is_fixed(output):
                raise _misfit(array, sample, output, f"{dtype} {shape}", values)
            if values.dtype != np.dtype(dtype).newbyteorder("<"):
                raise _misfit(array, sample, output, f"{dtype} {shape}", values)
            parts = values if "{n}" in self.path(array) else [values]
            for name, part in zip(names, parts, strict=True):
                yield name, self.encode(part, name)

    def _is_fixed(self, output: Output) -> bool:  # noqa: ARG002 - NIfTI files carry their own shapes
        return True

    def _remember(self, name: str, digest: str) -> None:
        while len(self._shared) >= _REMEMBERED:
            self._shared.pop(next(iter(self._shared)))
        self._shared[name] = digest


def _misfit(array: str, sample: Sample, output: Output, expected: str, got: NDArray[Any]) -> StorageError:
    return StorageError(f"{array!r} of sample {sample.index} does not fit its data set", where=output.where,
                        expected=expected, got=f"{got.dtype} {got.shape}")  # fmt: skip
