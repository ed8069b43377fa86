"""Writing a template bank: templates in their order, and never more than one of them in memory."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import TemplateBankError
from voxmint.files import atomic_path, errors_of_hdf5
from voxmint.templates.bank import FORMAT, PROVENANCE, VERSION, TemplateBank, add_to_fingerprint, new_fingerprint
from voxmint.templates.packing import Template, word_count


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
    sha, seen, nothing = new_fingerprint(), set[str](), np.zeros(0, np.uint64)
    # how many words there will be is known at the end, but a mapped dataset has its size from the start: so they wait
    # in a nameless file, which is gone with the process whatever happens
    with atomic_path(path) as part, tempfile.TemporaryFile(dir=path.parent) as spool:
        for template in templates:
            _check_template(template, seen, path)
            seen.add(template.name)
            add_to_fingerprint(sha, template.name, template.shape, template.words)
            spool.write(template.words.astype("<u8", copy=False).tobytes())
            rows.append(replace(template, words=nothing))
        if not rows:
            raise TemplateBankError("no templates: nothing but empty masks", where=origin,
                                    expected="at least one mask with a voxel set",
                                    remedy="give a folder of other masks, or use procedural templates")  # fmt: skip
        with errors_of_hdf5(part):
            start = _write_index(part, rows, sha.hexdigest())
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
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_EARLIEST, h5py.h5f.LIBVER_V110)
    access.set_alignment(1, 64)
    # values go to the disk when they are given: those that wait are written when a dataset is forgotten, where nobody
    # hears of an error, and HDF5 does not survive one
    access.set_sieve_buf_size(0)
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    with h5py.File(h5py.h5f.create(os.fsencode(part), h5py.h5f.ACC_EXCL, creation, access)) as file:
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
        for kind in PROVENANCE:
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
