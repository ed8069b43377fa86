"""The template bank: one HDF5 file with every template packed in bits, memory-mapped: all workers share one copy.

Datasets, for n templates: ``words`` uint64, all bricks (see `packing`), one template after the other, contiguous in the
file; ``offset`` int64 (n,), first word of each; ``shape`` int32 (n, 3), of the bounding box, voxels; ``voxel_count``
int64 (n,); ``name`` fixed-length UTF-8 (n,); ``voxel_size_mm`` float64 (n, 3); ``source``, ``structure`` and
``licence`` int32 (n,), each a row of ``source_text``, ``structure_text`` and ``licence_text``.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import TemplateBankError
from voxmint.files import atomic_path
from voxmint.sample import JSON
from voxmint.templates.packing import Shape, Template, pack, unpack, word_count

FORMAT = "voxmint template bank"
VERSION = 1
FILE_NAME = "templates.bank"
"""Name of the file in a bank's folder."""
__all__ = ["Template", "TemplateBank", "pack", "unpack", "write_bank"]
Stamp = list[int]
"""Device, inode, size, and the times of the last changes of content and status, in ns."""
_PROVENANCE = ("source", "structure", "licence")
_REMAKE = "make the bank with `voxmint templates prepare`"


class TemplateBank:
    """Templates by number, read from a bank file; build with `TemplateBank.open`.

    Attributes
    ----------
    path : Path
        The bank file.
    fingerprint : str
        SHA-256 (hex) over names, shapes and words in order: everything of the bank that decides samples.
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
        if path.is_dir():
            path = path / FILE_NAME
        if not path.is_file():
            raise TemplateBankError("no such template bank", where=path, remedy=_REMAKE)
        try:
            with h5py.File(path, "r") as file:
                if file.attrs.get("format") != FORMAT or file.attrs.get("version") != VERSION:
                    raise TemplateBankError("not a template bank of this version", where=path, remedy=_REMAKE,
                                            expected=f"{FORMAT}, version {VERSION}",
                                            got=f"{file.attrs.get('format')}, {file.attrs.get('version')}")  # fmt: skip
                names = ("offset", "shape", "voxel_count", "name", "voxel_size_mm", *_PROVENANCE)
                index = {name: file[name][()] for name in names}
                index |= {f"{name}_text": file[f"{name}_text"][()] for name in _PROVENANCE}
                words, found = file["words"], str(file.attrs["fingerprint"])
                size, start = int(words.shape[0]), words.id.get_offset()
                if words.dtype != np.dtype("<u8") or words.ndim != 1 or start is None or start % 8:
                    raise TemplateBankError("the words cannot be mapped", where=path, remedy=_REMAKE)
        except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
            if isinstance(error, TemplateBankError):
                raise
            raise TemplateBankError(f"damaged template bank: {error}", where=path, remedy=_REMAKE) from error
        _check(index, size, path)
        if path.stat().st_size < start + 8 * size:
            raise TemplateBankError("the template bank is cut", where=path, expected=f"{start + 8 * size} bytes",
                                    got=path.stat().st_size, remedy=_REMAKE)  # fmt: skip
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
        return {"count": len(self), "fingerprint": self.fingerprint, "address": str(self.path.absolute())}

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
        texts = {name: self._index[f"{name}_text"][self._index[name][i]].decode() for name in _PROVENANCE}
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
        sha = _new_fingerprint()
        for i, name in enumerate(self.names):
            _add_to_fingerprint(sha, name, self.shape(i), self.words(i))
        if sha.hexdigest() != self.fingerprint:
            raise TemplateBankError("the template bank is damaged", where=self.path, remedy=_REMAKE,
                                    expected=f"fingerprint {self.fingerprint}", got=sha.hexdigest())  # fmt: skip
        self.proven = stamp


def write_bank(path: str | Path, templates: Iterable[Template], *, origin: str | Path = "") -> TemplateBank:
    """Write templates, in their order, to a bank file; atomic, and never more than one template in memory.

    Parameters
    ----------
    path : path
        The bank file; its folder must exist. Equal templates give equal bytes.
    templates : iterable of Template
        At least one.
    origin : path, optional
        What they were taken from, for the error when there are none.

    Raises
    ------
    TemplateBankError
        There are no templates, or two have the same name.
    StorageError
        The disk is full or fails.
    """
    path, origin = Path(path), str(origin) or str(path)
    rows: list[Template] = []
    sha, seen, nothing = _new_fingerprint(), set[str](), np.zeros(0, np.uint64)
    # how many words there will be is known at the end, but a mapped dataset has its size from the start: so they wait
    # in a nameless file, which is gone with the process whatever happens
    with atomic_path(path) as part, tempfile.TemporaryFile(dir=path.parent) as spool:
        for template in templates:
            _check_template(template, seen, path)
            seen.add(template.name)
            _add_to_fingerprint(sha, template.name, template.shape, template.words)
            spool.write(template.words.astype("<u8", copy=False).tobytes())
            rows.append(replace(template, words=nothing))
        if not rows:
            raise TemplateBankError("no templates: nothing but empty masks", where=origin,
                                    expected="at least one mask with a voxel set",
                                    remedy="give a folder of other masks, or use procedural templates")  # fmt: skip
        try:
            start = _write_index(part, rows, sha.hexdigest())
        except RuntimeError as error:  # HDF5 reports some failures of the disk as these
            raise OSError(str(error)) from error
        spool.seek(0)
        with part.open("rb+") as file:
            file.seek(start)
            shutil.copyfileobj(spool, file, 8 << 20)
    return TemplateBank.open(path)


def _write_index(part: Path, rows: list[Template], fingerprint: str) -> int:
    """Write the bank without its words; return the byte where these go."""
    import h5py

    shape = np.array([row.shape for row in rows], "<i4")
    count = np.array([word_count(row.shape) for row in rows], "<i8")
    with h5py.File(part, "x", libver=("earliest", "v110"), alignment_threshold=1, alignment_interval=64) as file:
        plain = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plain.set_layout(h5py.h5d.CONTIGUOUS)
        plain.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plain.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        plain.set_obj_track_times(False)
        space = h5py.h5s.create_simple((int(count.sum()),))
        words = h5py.h5d.create(file.id, b"words", h5py.h5t.STD_U64LE, space, dcpl=plain)
        file["offset"] = (np.cumsum(count) - count).astype("<i8")
        file["shape"] = shape
        file["voxel_count"] = np.array([row.voxel_count for row in rows], "<i8")
        file["name"] = _fixed([row.name for row in rows])
        file["voxel_size_mm"] = np.array([row.voxel_size_mm for row in rows], "<f8")
        for kind in _PROVENANCE:
            texts = [getattr(row, kind) for row in rows]
            number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
            file[kind] = np.array([number[text] for text in texts], "<i4")
            file[f"{kind}_text"] = _fixed(list(number))
        file.attrs["format"], file.attrs["version"], file.attrs["fingerprint"] = FORMAT, VERSION, fingerprint
        return int(words.get_offset())


def _fixed(texts: list[str]) -> NDArray[np.bytes_]:
    encoded = [text.encode() for text in texts]
    return np.array(encoded, f"S{max(1, *map(len, encoded))}")


def _check_template(template: Template, seen: set[str], path: Path) -> None:
    fault = None
    if template.name in seen:
        fault = "two templates have this name"
    elif not template.name or "\0" in template.name:
        fault = "a template's name is empty or holds a NUL"
    elif min(template.shape) < 1 or not 0 < template.voxel_count <= math.prod(template.shape):
        fault = "a template is empty"
    elif template.words.dtype != np.uint64 or template.words.shape != (word_count(template.shape),):
        fault = "a template's words do not fit its shape"
    if fault:
        got = f"{template.name!r}: shape {template.shape}, {template.voxel_count} voxels, {template.words.size} words"
        raise TemplateBankError(fault, where=path, got=got, remedy="give every non-empty template its own name")


def _check(index: dict[str, NDArray[Any]], words: int, path: Path) -> None:
    shape, offset = index["shape"].astype(np.int64), index["offset"]
    n = len(offset)
    fault = None
    if n == 0:
        fault = "it holds no templates"
    elif any(index[name].shape != (n, 3) for name in ("shape", "voxel_size_mm")) or any(
        index[name].shape != (n,) for name in ("voxel_count", "name", *_PROVENANCE)
    ):
        fault = "its index has gaps"
    elif (shape < 1).any() or (shape > 2**20).any():
        fault = "it holds a template without extent"
    elif not (offset == np.append(0, np.cumsum(((shape + 3) // 4).prod(axis=1)))[:-1]).all():
        fault = "offsets and shapes disagree"
    elif int(offset[-1]) + int(((shape[-1] + 3) // 4).prod()) != words:
        fault = "its words do not fit its shapes"
    elif any(not ((index[k] >= 0) & (index[k] < len(index[f"{k}_text"]))).all() for k in _PROVENANCE):
        fault = "its provenance has gaps"
    elif ((index["voxel_count"] < 1) | (index["voxel_count"] > shape.prod(axis=1))).any():
        fault = "its voxel counts do not fit its shapes"
    if fault:
        raise TemplateBankError(f"damaged template bank: {fault}", where=path, remedy=_REMAKE)


def _new_fingerprint() -> Any:
    return hashlib.sha256(f"{FORMAT} {VERSION}\n".encode())


def _add_to_fingerprint(sha: Any, name: str, shape: Shape, words: NDArray[np.uint64]) -> None:
    sha.update(f"{len(name.encode())} {name} {shape[0]} {shape[1]} {shape[2]}\n".encode())
    sha.update(np.ascontiguousarray(words).astype("<u8", copy=False))
