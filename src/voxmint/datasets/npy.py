"""A tree of plain ``.npy`` files, one an array, in a folder or in a bucket; instances under the published names.

A file's header is fixed by the array's shape and type, and written here byte for byte: NumPy's own differs between its
releases. So a file is compared as a whole when it is read, and no header is ever trusted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from voxmint.datasets.format import Target, array_bytes, little_endian
from voxmint.errors import InputError, PlanError, StorageError
from voxmint.files import file_entry, storage_errors, sync_directory
from voxmint.sample import JSON, Sample
from voxmint.stores.place import Store

INSTANCE_PATHS = {
    "source": "source/source_{id}.npy",
    "target": "gt/target_{id}.npy",
    "seed": "target/augmented_target_{key}.npy",
    "valid": "valid/valid_{id}.npy",
}
"""Where the published generator puts image, mask and mask on a few slices; the scenario is in the last one's name."""
OTHER_PATH = "{name}/{name}_{key}.npy"
"""Where any other array goes."""

_RECIPE = "recipe.yaml"
_SUMMARIES = (_RECIPE, "records.jsonl", "rejected.csv", "manifest.jsonl")
_REMEMBERED = 64


@dataclass(frozen=True)
class NpyFormat:
    """One ``.npy`` file an array, which `numpy.load` opens anywhere.

    Parameters
    ----------
    root : str, optional
        Where the arrays go instead of the target's directory: ``gs://``, ``s3://`` or another folder. Recipe, records,
        rejections and manifest are copied there when the data set is finished, so that it can be used from there alone.
    scenarios : int
        How many samples in a row share what a path with ``{id}`` names: their keys end in ``_0``, ``_1``, ..., and
        ``{id}`` is the key without this end. With one there is no such end, and ``{id}`` is the key.
    paths : mapping of str to str
        For each array its file; ``{name}/{name}_{key}.npy`` for arrays that have none here.
    secrets : str, optional
        JSON file of credentials for the root. Told to worker processes, never recorded.
    """

    root: str | None = None
    scenarios: int = 1
    paths: Mapping[str, str] = field(default_factory=lambda: dict(INSTANCE_PATHS))
    secrets: str | None = field(default=None, repr=False, compare=False)
    name: ClassVar[str] = "npy"
    _shared: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Digests of the shared files that this process wrote last: the next scenario need not send them again."""

    def __post_init__(self) -> None:
        if self.scenarios < 1:
            raise PlanError("wrong number of scenarios", expected="at least 1", got=self.scenarios)
        for array, path in self.paths.items():
            parts = PurePosixPath(path).parts
            named = "{key}" in path or "{id}" in path
            if not named or path.startswith("/") or ".." in parts or not path.endswith(".npy"):
                raise PlanError(
                    "unusable path of .npy files",
                    where=array,
                    got=path,
                    expected="a relative path with {key} or {id}, without .., ending in .npy",
                )

    def spec(self) -> JSON:
        """Return the options as JSON."""
        return {"name": self.name, "root": self.root, "scenarios": self.scenarios, "paths": dict(self.paths)}

    def confidential(self) -> JSON:
        """Return the options that are not recorded."""
        return {} if self.secrets is None else {"secrets": self.secrets}

    @classmethod
    def from_spec(cls, spec: JSON) -> Self:
        """Build from what `spec` returned, with or without what `confidential` did."""
        return cls(spec["root"], int(spec["scenarios"]), dict(spec["paths"]), spec.get("secrets"))

    def check(self, target: Target) -> None:
        """Raise `PlanError` if the samples differ in shape, `StorageError` if the root is no usable address."""
        if not target.layout:
            raise PlanError("the npy format needs samples of one fixed shape", where=target.directory,
                            remedy="crop all samples to one size")  # fmt: skip
        self._store(target)

    def present(self, target: Target) -> list[Path]:
        """Return which files of this tree exist already; below a root of its own, only before its run has begun."""
        if self.root is not None and (target.directory / _RECIPE).exists():
            return []  # `begin` made sure that the place is this data set's
        folders = sorted({self._folder(array) for array in target.layout})
        names = [name for folder in folders for name in self._store(target).list(folder)]
        ours = [self._pattern(array) for array in target.layout]
        return [target.directory / name for name in names if any(PurePosixPath(name).match(p) for p in ours)]

    def remaining_bytes(self, target: Target, done: int) -> int:
        """Return the size of all files to come, 0 when they go elsewhere."""
        if self.root is not None:
            return 0
        each = 0.0
        for name, (shape, dtype) in target.layout.items():
            shared = self.scenarios if "{key}" not in self._path(name) else 1
            each += (array_bytes(shape, dtype) + len(npy_header(shape, dtype))) / shared
        return int((target.count - done) * each)

    def begin(self, target: Target) -> None:
        """Make the folders; take possession of a root of its own, unless another data set has it."""
        if self.root is None:
            for folder in self._folders(target):
                with storage_errors(folder, "making the folder"):
                    folder.mkdir(parents=True, exist_ok=True)
            return
        store, ours = self._store(target), target.note.encode()
        if not store.exists(_RECIPE):
            store.write(_RECIPE, ours)
        elif store.read(_RECIPE) != ours:
            raise PlanError("the place holds another data set", where=f"{store.url}/{_RECIPE}",
                            expected="the same recipe, count and format",
                            remedy="choose another place, or the same recipe")  # fmt: skip

    def write(self, target: Target, sample: Sample) -> list[JSON]:
        """Write each file, whole or not at all; to a bucket, which answers late, all at a time."""
        store, names = self._store(target), self._names(target, sample.key)
        files = {name: _encode(sample, array, target) for array, name in names.items()}
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}

        def put(name: str) -> None:
            if self._shared.get(name) != digests[name] or not store.exists(name):
                store.write(name, files[name])

        if store.is_local:
            for name in files:
                put(name)
        else:
            with ThreadPoolExecutor(len(files)) as threads:
                for _ in threads.map(put, files):
                    pass
        for array, name in names.items():
            if self.scenarios > 1 and "{key}" not in self._path(array):
                self._remember(name, digests[name])
        if self.root is not None:
            return []  # the manifest knows files of the directory; elsewhere, digests of arrays tell every changed byte
        return [
            {"file": name, "bytes": len(data), "covers": "file", "sha256": digests[name]}
            for name, data in files.items()
        ]

    def stored(self, target: Target, files: list[JSON]) -> bool:
        """Tell whether all files are there with their sizes; those elsewhere are only known by what was sent."""
        if self.root is None and len(files) != len(target.layout):
            return False
        paths = [(target.directory / str(file["file"]), file["bytes"]) for file in files]
        return all(path.is_file() and path.stat().st_size == size for path, size in paths)

    def sync(self, target: Target) -> None:
        """Make the renames last; the files' data were flushed one by one."""
        for folder in self._folders(target) if self.root is None else ():
            with storage_errors(folder, "flushing to the disk"):
                sync_directory(folder)

    def commit(self, target: Target) -> list[JSON]:
        """Flush the folders; every file has its final name already."""
        self.sync(target)
        return []

    def cleanup(self, target: Target) -> None:
        """Remove temporary files that killed workers left; copy recipe, records and manifest to a root of its own."""
        store = self._store(target)
        for name in target.layout if store.is_local else ():
            folder, _, pattern = self._pattern(name).rpartition("/")
            for path in Path(store.url).glob(f"{folder}/.{pattern}.*.part" if folder else f".{pattern}.*.part"):
                path.unlink(missing_ok=True)
        if self.root is None:
            return
        for name in _SUMMARIES:  # the manifest last: where there is one, all is there
            path = target.directory / name
            if name == "rejected.csv" and not path.exists():
                continue
            with storage_errors(path, "reading"):
                data = path.read_bytes()
            if not store.exists(name) or store.read(name) != data:
                store.write(name, data)

    def entry(self, target: Target, file: JSON) -> JSON:
        """Return size and SHA-256 of the file as it is now."""
        return file_entry(target.directory, target.directory / str(file["file"]))

    def files(self, target: Target, index: int, key: str) -> dict[str, list[Path]]:  # noqa: ARG002
        """Return the file of each array; below a root of its own, the place it would have in the directory."""
        return {array: [target.directory / name] for array, name in self._names(target, key).items()}

    def read(self, target: Target, index: int, key: str) -> dict[str, NDArray[Any]]:  # noqa: ARG002
        """Return the arrays.

        Raises
        ------
        InputError
            A file is cut, or of another shape or type.
        StorageError
            A file is missing or cannot be read.
        """
        store, arrays = self._store(target), {}
        for array, name in self._names(target, key).items():
            arrays[array] = _decode(store.read(name), *target.layout[array], where=f"{store.url}/{name}")
        return arrays

    def _path(self, array: str) -> str:
        return self.paths.get(array, OTHER_PATH.replace("{name}", array))

    def _pattern(self, array: str) -> str:
        return self._path(array).format(key="*", id="*")

    def _folder(self, array: str) -> str:
        return self._path(array).rpartition("/")[0]

    def _names(self, target: Target, key: str) -> dict[str, str]:
        """Return the name of each array's file below the root."""
        shared = key.rpartition("_")[0] if self.scenarios > 1 else key
        return {array: self._path(array).format(key=key, id=shared) for array in sorted(target.layout)}

    def _folders(self, target: Target) -> list[Path]:
        return sorted({target.directory / self._folder(array) for array in target.layout})

    def _store(self, target: Target) -> Store:
        if self.root is None:
            return _open_store(str(target.directory), None, os.getpid())
        return _open_store(self.root, self.secrets, os.getpid())

    def _remember(self, name: str, digest: str) -> None:
        while len(self._shared) >= _REMEMBERED:
            self._shared.pop(next(iter(self._shared)))
        self._shared[name] = digest


def npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    """Return the header of a C-ordered little-endian array, format version 1.0, padded so that data start at 64 n."""
    text = f"{{'descr': '{np.dtype(dtype).newbyteorder('<').str}', 'fortran_order': False, 'shape': {tuple(shape)}, }}"
    padding = -(10 + len(text) + 1) % 64
    body = f"{text}{' ' * padding}\n".encode("latin1")
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body


def _encode(sample: Sample, array: str, target: Target) -> bytes:
    (shape, dtype), values = target.layout[array], little_endian(sample.arrays[array])
    if values.shape != shape or values.dtype != np.dtype(dtype).newbyteorder("<"):
        raise StorageError(f"{array!r} of sample {sample.index} does not fit its data set", where=target.directory,
                           expected=f"{dtype} {shape}", got=f"{values.dtype} {values.shape}")  # fmt: skip
    return npy_header(shape, dtype) + values.tobytes()


def _decode(data: bytes, shape: tuple[int, ...], dtype: str, where: str) -> NDArray[Any]:
    header = npy_header(shape, dtype)
    size = len(header) + array_bytes(shape, dtype)
    if not data.startswith(header) or len(data) != size:
        raise InputError("not the .npy file that was written", where=where, expected=f"{dtype} {shape}, {size:,} bytes",
                         got=f"{len(data):,} bytes", remedy="make the data set again, or restore the file")  # fmt: skip
    kind = np.dtype(dtype).newbyteorder("<")
    return np.frombuffer(data, kind, offset=len(header)).reshape(shape)


@lru_cache(maxsize=8)
def _open_store(url: str, secrets: str | None, process: int) -> Store:  # noqa: ARG001 - clients do not survive a fork
    return Store(url, secrets=secrets)
