"""The structure of an HDF5 file, that is all its bytes but those of the arrays: made, copied, and laid over another."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from voxmint.datasets.format import Output
from voxmint.files import errors_of_hdf5, publish, storage_errors, sync_file
from voxmint.system import pread, pwrite

HDF5_VERSION = ("v108", "v108")
CHUNK_BYTES = 1 << 24
_PAGE_BYTES = 1 << 16
"""Bytes compared at a time, so that places which were never written stay unwritten."""
Span = tuple[int, int]
"""Start and stop (excluded) of bytes in a file."""


@contextmanager
def hdf5_errors(path: Path, doing: str) -> Iterator[None]:
    """Do as `storage_errors`, also for what HDF5 tells of the system's errors by other types."""
    with storage_errors(path, doing), errors_of_hdf5(path):
        yield


def make_structure(path: Path, names: Iterable[str], output: Output) -> NDArray[np.int64]:
    """Create a group with its arrays for each name; return their places, (samples, arrays in order of name).

    The format version is that of HDF5 1.8: every h5py in use reads it, its metadata carry checksums, and it was as
    fast and as small as the newest (120,000 samples: under a minute, 86 MB). No times are stored, so that a rerun makes
    the same bytes. A file that exists keeps what lies where its arrays belong.
    """
    draft = path.with_name(path.name + ".draft")
    arrays = sorted(output.layout.items())
    offsets: list[list[int]] = []
    place = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    place.set_layout(h5py.h5d.CONTIGUOUS)
    place.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    place.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    place.set_obj_track_times(False)
    groups = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    groups.set_obj_track_times(False)
    kinds = [
        (
            name.encode(),
            h5py.h5t.py_create(np.dtype(dtype).newbyteorder("<"), logical=True),
            h5py.h5s.create_simple(shape),
        )
        for name, (shape, dtype) in arrays
    ]
    with hdf5_errors(draft, "making the structure"), h5py.File(draft, "w", libver=HDF5_VERSION) as file:
        file.attrs["voxmint_recipe"] = output.note
        for name in names:
            group = h5py.h5g.create(file.id, name.encode(), gcpl=groups)
            made = (h5py.h5d.create(group, array, dtype, space, place) for array, dtype, space in kinds)
            offsets.append([dataset.get_offset() for dataset in made])
    if path.exists():
        lay_over(draft, path)
        sync_file(path)
        draft.unlink()
    else:
        publish(draft, path)
    return np.array(offsets, np.int64).reshape(-1, len(arrays))


def array_spans(path: Path) -> list[Span]:
    """Return where the arrays of a file lie, in ascending order."""
    spans = []
    with errors_of_hdf5(path), h5py.File(path, "r", locking=False) as file:
        for name in file:  # h5py's objects of low level, since its groups take five times as long
            group = h5py.h5g.open(file.id, name.encode())
            for array in group:
                dataset = h5py.h5d.open(group, array)
                start = dataset.get_offset()
                spans.append((start, start + dataset.get_storage_size()))
    return sorted(spans)


def copy_arrays(source: Path, place: Callable[[int], tuple[Path, list[int]]]) -> None:
    """Copy the arrays of every group to the file and the offsets, one an array, that its number has."""
    with ExitStack() as opened, hdf5_errors(source, "reading"):
        file = opened.enter_context(h5py.File(source, "r", locking=False))
        old = opened.enter_context(source.open("rb", buffering=0))
        targets: dict[Path, int] = {}
        for name in file:
            path, offsets = place(int(name))
            if path not in targets:
                targets[path] = opened.enter_context(path.open("r+b", buffering=0)).fileno()
            group = h5py.h5g.open(file.id, name.encode())
            for array, offset in zip(sorted(group), offsets, strict=True):
                dataset = h5py.h5d.open(group, array)
                start, size = dataset.get_offset(), dataset.get_storage_size()
                with storage_errors(path, f"bringing over sample {int(name)}", size):
                    for at, chunk in chunks(old.fileno(), start, start + size, CHUNK_BYTES):
                        pwrite_all(targets[path], memoryview(chunk), offset + at - start)


def gaps(spans: Iterable[Span], size: int) -> Iterator[Span]:
    """Yield what lies between the spans, and between them and both ends of the file."""
    position = 0
    for start, stop in [*spans, (size, size)]:
        if position < start:
            yield position, start
        position = stop


def chunks(descriptor: int, start: int, stop: int, most: int) -> Iterator[tuple[int, bytes]]:
    """Yield place and bytes of a part of a file, piece by piece, as far as the file goes."""
    while start < stop and (chunk := pread(descriptor, min(most, stop - start), start)):
        yield start, chunk
        start += len(chunk)


def structure_digest(path: Path) -> tuple[int, str]:
    """Return size and SHA-256 of all bytes of a file but those of its arrays."""
    digest = hashlib.sha256()
    with storage_errors(path, "reading"), path.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        for start, stop in gaps(array_spans(path), size):
            for _, chunk in chunks(stream.fileno(), start, stop, CHUNK_BYTES):
                digest.update(chunk)
    return size, digest.hexdigest()


def copy_structure(source: Path, copy: Path) -> None:
    """Copy all but the arrays, whose places stay unwritten."""
    with storage_errors(copy, "copying the structure"), source.open("rb") as old, copy.open("wb", buffering=0) as new:
        size = os.fstat(old.fileno()).st_size
        for gap in gaps(array_spans(source), size):
            for start, chunk in chunks(old.fileno(), *gap, CHUNK_BYTES):
                pwrite_all(new.fileno(), memoryview(chunk), start)
        os.ftruncate(new.fileno(), size)


def lay_over(structure: Path, path: Path) -> None:
    """Make all bytes of ``path`` but those of its arrays equal to ``structure``, and its size too; safe to repeat."""
    with (
        storage_errors(path, "writing the structure"),
        structure.open("rb") as new,
        path.open("r+b", buffering=0) as old,
    ):
        size = os.fstat(new.fileno()).st_size
        for gap in gaps(array_spans(structure), size):
            for file in (new, old):  # what neither has written is zero in both
                for written in _written(file.fileno(), *gap):
                    for start, chunk in chunks(new.fileno(), *written, _PAGE_BYTES):
                        if pread(old.fileno(), len(chunk), start) != chunk:
                            pwrite_all(old.fileno(), memoryview(chunk), start)
        os.ftruncate(old.fileno(), size)


def _written(descriptor: int, start: int, stop: int) -> Iterator[Span]:
    """Yield those parts of a stretch of a file that are not holes, as far as the file system tells."""
    while start < stop:
        try:
            start = os.lseek(descriptor, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nothing follows
                raise
            return
        end = min(stop, os.lseek(descriptor, start, os.SEEK_HOLE))
        if start < end:
            yield start, end
        start = max(end, start)


def pwrite_all(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all of ``data`` at its place."""
    while data:
        written = pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
