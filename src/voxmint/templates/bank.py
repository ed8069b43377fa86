"""The template bank: one HDF5 file with every template packed in bits, memory-mapped: all workers share one copy.

Datasets, for n templates: ``words`` uint64, all bricks (see `packing`), one template after the other, contiguous in the
file; ``offset`` int64 (n,), first word of each; ``shape`` int32 (n, 3), of the bounding box, voxels; ``voxel_count``
int64 (n,); ``name`` fixed-length UTF-8 (n,); ``voxel_size_mm`` float64 (n, 3); ``source``, ``structure`` and
``licence`` int32 (n,), each a row of ``source_text``, ``structure_text`` and ``licence_text``.
"""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import TemplateBankError
from voxmint.files import reading_errors, regular
from voxmint.recipe import read_yaml
from voxmint.sample import JSON
from voxmint.templates.packing import Shape, unpack, word_count

FORMAT = "voxmint template bank"
VERSION = 1
FILE_NAME = "templates.bank"
"""Name of the file in a bank's folder."""
Stamp = list[int]
"""Device, inode, size, and the times of the last changes of content and status, in ns."""
PROVENANCE = ("source", "structure", "licence")
_REMAKE = "make the bank with `voxmint templates prepare` or `procedural`, or vm.procedural_templates(FOLDER)"


class TemplateBank:
    """Templates by number, read from a bank file; build with `TemplateBank.open`.

    Attributes
    ----------
    path : Path
        The bank file.
    fingerprint : str
        SHA-256 (hex) over names, shapes and words in order: everything of the bank that decides samples.

    Examples
    --------
    >>> import voxmint as vm
    >>> done = vm.procedural_templates("bank", 8, workers=1)
    >>> len(vm.TemplateBank.open("bank"))
    8
    """

    def __init__(self, path: Path, words: NDArray[np.uint64], index: dict[str, NDArray[Any]], fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint
        self._words, self._index = words, index
        self._offset, self._shape = index["offset"], index["shape"]
        self.proven: Stamp | None = None
        """The `stamp` of the file when every byte of it was last compared with the fingerprint."""

    @classmethod
    def open(cls, path: str | Path, *, fingerprint: str | None = None, stamp: Stamp | None = None) -> TemplateBank:
        """Open a bank, given as its file or folder, and map its words.

        Parameters
        ----------
        path : path
            The file or its folder.
        fingerprint : str, optional
            The content that it must have; then every byte is read, unless a stamp vouches for them. Without one,
            structure and sizes are checked, but not every byte (`verify` does that).
        stamp : list of int, optional
            The `stamp` of this bank when its content was verified.

        Raises
        ------
        TemplateBankError
            The file is missing, no bank, empty, cut, contradicts itself, or its content is not the one expected.
        """
        import h5py

        path = Path(path)
        with reading_errors(path, TemplateBankError, _REMAKE):
            path = path / FILE_NAME if os.path.isdir(path) else path  # noqa: PTH112 - is_dir raises for some names
            there = regular(path, TemplateBankError, "a template bank").stat().st_size
        try:
            with h5py.File(path, "r") as file:
                if file.attrs.get("format") != FORMAT or file.attrs.get("version") != VERSION:
                    raise TemplateBankError("not a template bank of this version", where=path, remedy=_REMAKE,
                                            expected=f"{FORMAT}, version {VERSION}",
                                            got=f"{file.attrs.get('format')}, {file.attrs.get('version')}")  # fmt: skip
                texts = ("name", *(f"{name}_text" for name in PROVENANCE))
                names = ("offset", "shape", "voxel_count", "voxel_size_mm", *PROVENANCE, *texts)
                if (claimed := sum(file[name].nbytes for name in names)) > there:
                    raise ValueError(f"its index claims {claimed} bytes of {there}")
                index = {name: file[name][()] for name in names}
                for text in texts:
                    b"\n".join(index[text].tolist()).decode()  # all at once: there may be very many
                words, found = file["words"], str(file.attrs["fingerprint"])
                size, start = int(words.shape[0]), words.id.get_offset()
                if words.dtype != np.dtype("<u8") or words.ndim != 1 or start is None or start % 8:
                    raise TemplateBankError("the words cannot be mapped", where=path, remedy=_REMAKE)
        except (OSError, LookupError, ValueError, RuntimeError, TypeError, AttributeError, MemoryError) as error:
            if isinstance(error, TemplateBankError):
                raise
            raise TemplateBankError(f"damaged template bank: {error}", where=path, remedy=_REMAKE) from error
        _check(index, size, path)
        with reading_errors(path, TemplateBankError, _REMAKE):  # also too little address space to map it
            mapped = np.memmap(path, dtype="<u8", mode="r", offset=start, shape=(size,))
        # a plain array over the same pages: slicing a memmap object costs several times as much
        bank = cls(path, np.asarray(mapped), index, found)
        if fingerprint is not None:
            bank.proven = stamp
            bank.verify()
            if found != fingerprint:
                raise TemplateBankError("another template bank than the samples are made of", where=path,
                                        expected=f"fingerprint {fingerprint}", got=found,
                                        remedy="put the bank back, or name where it lies")  # fmt: skip
        return bank

    def __len__(self) -> int:
        return len(self._offset)

    def identity(self) -> JSON:
        """Return what names this bank in a definition."""
        about: JSON = {"count": len(self), "fingerprint": self.fingerprint, "address": str(self.path.absolute())}
        recipe = self.path.with_name("recipe.yaml")
        if recipe.is_file() and isinstance(made := read_yaml(recipe).get("templates"), str):
            keep = ("templates", "version", "count", "seed", "licence", "tree")
            values = read_yaml(recipe)
            about["made_from"] = {name: values[name] for name in keep if name in values} | {"templates": made}
        return about

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all templates, in order."""
        return tuple(name.decode() for name in self._index["name"])

    def name(self, i: int) -> str:
        """Return the name of template ``i``."""
        return str(self._index["name"][i].decode())

    def shape(self, i: int) -> Shape:
        """Return the bounding box of template ``i``, voxels."""
        ni, nj, nk = self._shape[i].tolist()
        return ni, nj, nk

    def voxel_count(self, i: int) -> int:
        """Return how many voxels of template ``i`` are set."""
        return int(self._index["voxel_count"][i])

    def words(self, i: int) -> NDArray[np.uint64]:
        """Return the bricks of template ``i``, (n,) uint64, read-only and mapped from the file."""
        first = int(self._offset[i])
        return self._words[first : first + word_count(self.shape(i))]

    def mask(self, i: int) -> NDArray[np.bool_]:
        """Return template ``i`` as an (ni, nj, nk) mask."""
        return unpack(self.words(i), self.shape(i))

    def provenance(self, i: int) -> JSON:
        """Return where template ``i`` comes from: source, structure, licence, voxel size in mm."""
        texts = {name: self._index[f"{name}_text"][self._index[name][i]].decode() for name in PROVENANCE}
        return {"name": self.name(i), **texts, "voxel_size_mm": self._index["voxel_size_mm"][i].tolist()}

    @property
    def stamp(self) -> Stamp:
        """What the file system says of the file; any change of a byte changes it, too."""
        try:
            about = self.path.stat()
        except OSError as error:
            raise TemplateBankError(f"the template bank is gone: {error.strerror}", where=self.path,
                                    remedy="put the bank back, or name where it lies") from error  # fmt: skip
        return [about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns]

    def verify(self) -> None:
        """Compute the fingerprint from every byte again, unless nothing happened to the file since that was done.

        Raises
        ------
        TemplateBankError
            It differs from the recorded one, or the file is gone.
        """
        stamp = self.stamp
        if stamp == self.proven:
            return
        sha = new_fingerprint()
        for i, name in enumerate(self.names):
            add_to_fingerprint(sha, name, self.shape(i), self.words(i))
        if sha.hexdigest() != self.fingerprint:
            raise TemplateBankError("the template bank is damaged", where=self.path, remedy=_REMAKE,
                                    expected=f"fingerprint {self.fingerprint}", got=sha.hexdigest())  # fmt: skip
        self.proven = stamp


def _check(index: dict[str, NDArray[Any]], words: int, path: Path) -> None:
    shape, offset = index["shape"].astype(np.int64), index["offset"]
    n = len(offset)
    fault = None
    if n == 0:
        fault = "it holds no templates"
    elif any(index[name].shape != (n, 3) for name in ("shape", "voxel_size_mm")) or any(
        index[name].shape != (n,) for name in ("voxel_count", "name", *PROVENANCE)
    ):
        fault = "its index has gaps"
    elif (shape < 1).any() or (shape > 2**20).any():
        fault = "it holds a template without extent"
    elif not (offset == np.append(0, np.cumsum(((shape + 3) // 4).prod(axis=1)))[:-1]).all():
        fault = "offsets and shapes disagree"
    elif int(offset[-1]) + int(((shape[-1] + 3) // 4).prod()) != words:
        fault = "its words do not fit its shapes"
    elif any(not ((index[k] >= 0) & (index[k] < len(index[f"{k}_text"]))).all() for k in PROVENANCE):
        fault = "its provenance has gaps"
    elif ((index["voxel_count"] < 1) | (index["voxel_count"] > shape.prod(axis=1))).any():
        fault = "its voxel counts do not fit its shapes"
    if fault:
        raise TemplateBankError(f"damaged template bank: {fault}", where=path, remedy=_REMAKE)


def new_fingerprint() -> Any:
    """Return the hash that begins a fingerprint."""
    return hashlib.sha256(f"{FORMAT} {VERSION}\n".encode())


def add_to_fingerprint(sha: Any, name: str, shape: Shape, words: NDArray[np.uint64]) -> None:
    """Add one template."""
    sha.update(f"{len(name.encode())} {name} {shape[0]} {shape[1]} {shape[2]}\n".encode())
    sha.update(np.ascontiguousarray(words).astype("<u8", copy=False))
