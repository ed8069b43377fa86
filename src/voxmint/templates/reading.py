"""From label files to templates: which files make one shape, and how labels are cut apart."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import InputError, NoRoomError
from voxmint.nifti.header import Header, voxel_size
from voxmint.nifti.memory import check_room, memory_told
from voxmint.nifti.slabs import label_slabs
from voxmint.templates.packing import Template, bounding_box, pack

MERGED = {"all_ribs": "rib_", "all_vertebrae": "vertebrae_"}
"""Name of each merged structure, and how the names of its parts begin."""
_MANY_LABELS = 1 << 16


def structure_of(path: Path) -> str:
    """Return a file's name without ``.nii`` or ``.nii.gz``."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def is_nifti(path: Path) -> bool:
    """Tell whether a name is that of a visible ``.nii`` or ``.nii.gz`` file."""
    return path.name.endswith((".nii", ".nii.gz")) and not path.name.startswith(".")


def group_structures(files: Iterable[Path]) -> list[tuple[str, list[Path]]]:
    """Group the files of one folder into structures.

    Single ribs and vertebrae are parts of ``all_ribs`` and ``all_vertebrae``; where such a file lies already it is used
    and the parts are left out.

    Returns
    -------
    list of (structure, files)
        Sorted by structure; the files of each are to be united.
    """
    groups: dict[str, list[Path]] = {}
    for path in sorted(files):
        structure = structure_of(path)
        merged = next((name for name, prefix in MERGED.items() if structure.startswith(prefix)), structure)
        groups.setdefault(merged, []).append(path)
    for name in MERGED.keys() & groups.keys():
        groups[name] = [path for path in groups[name] if structure_of(path) == name] or groups[name]
    return sorted(groups.items())


@dataclass(frozen=True)
class Part:
    """The part of a label volume that holds all its labels; the rest, mostly most of it, was never kept.

    Attributes
    ----------
    array : ndarray
        Labels, axes (i, j, k): the bounding box of those that are not 0. Its lengths are 0 if there are none.
    start : tuple of int
        Its first voxel in the volume.
    header : Header
        Of the first file: the whole volume's shape, and its affine.
    """

    array: NDArray[Any]
    start: tuple[int, int, int]
    header: Header

    def whole(self) -> NDArray[Any]:
        """Return the whole volume."""
        volume = np.zeros(self.header.shape, self.array.dtype, order="F")
        volume[_box(self.start, self.array)] = self.array
        return volume


def read_union(paths: list[Path]) -> Part:
    """Read one file, or the union of several masks as a mask of 0 and 1.

    Raises
    ------
    InputError
        A file cannot be read, their shapes differ, or what is to be kept does not fit into memory.
    """
    pieces: list[tuple[tuple[int, ...], NDArray[Any]]] = []
    header, kept, checked = None, 0, 0
    for path in paths:
        with memory_told(path):
            for slab in label_slabs(path):
                header = header or slab.header
                if slab.header.shape != header.shape:
                    raise InputError("masks of one subject differ in shape and cannot be merged", where=path,
                                     expected=f"{header.shape} as in {paths[0]}", got=slab.header.shape,
                                     remedy="resample or remove one of these files")  # fmt: skip
                if (box := bounding_box(slab.array)) is None:
                    continue
                piece = slab.array[box].copy(order="F") if len(paths) == 1 else slab.array[box] != 0
                pieces.append((tuple(a + s.start for a, s in zip(slab.start, box, strict=True)), piece))
                kept += piece.nbytes
                if kept > checked:  # what is kept is put together at the end
                    check_room(kept, "labels that are not 0, until now", path)
                    checked = 2 * kept
    assert header is not None  # no axis of a volume is empty, so there was a slab
    with memory_told(paths[0]):
        return _put_together(pieces, header, paths[0])


def read_usable(paths: list[Path], root: Path, reads: dict[str, str], unusable: dict[str, str]) -> Part | None:
    """Read the union of those files of one structure that can be used.

    Parameters
    ----------
    paths : list of Path
        Of the structure.
    root : Path
        What they are named relative to.
    reads, unusable : dict of str to str
        To be filled: each file that was read, by name, with its digest; each that cannot be used, with the reason.

    Returns
    -------
    Part or None
        None if no file can be used.

    Raises
    ------
    NoRoomError
        What is to be kept does not fit into memory.
    """
    left = list(paths)
    while left:
        try:
            union = read_union(left)
        except NoRoomError:
            raise
        except InputError as error:
            bad = next((path for path in left if str(path) == str(error.where)), None)
            if bad is None:
                raise
            unusable[bad.relative_to(root).as_posix()] = _in_a_line(error)
            left.remove(bad)
        else:
            reads |= {path.relative_to(root).as_posix(): file_digest(path) for path in left}
            return union
    return None


def _in_a_line(error: InputError) -> str:
    more = [f"{name} {value}" for name in ("expected", "got") if (value := getattr(error, name)) is not None]
    return " ".join(f"{error.what}{' (' if more else ''}{', '.join(more)}{')' if more else ''}".split())


def _put_together(pieces: list[tuple[tuple[int, ...], NDArray[Any]]], header: Header, path: Path) -> Part:
    if not pieces:
        return Part(np.zeros((0, 0, 0), np.uint8), (0, 0, 0), header)
    first = np.min([start for start, _ in pieces], axis=0)
    shape = np.max([np.add(start, piece.shape) for start, piece in pieces], axis=0) - first
    dtype = np.result_type(np.uint8, *{piece.dtype for _, piece in pieces})
    check_room(math.prod(shape.tolist()) * dtype.itemsize, f"{' x '.join(map(str, shape))} voxels", path)
    array = np.zeros(shape, dtype, order="F")
    while pieces:  # each is given back as soon as it has its place
        start, piece = pieces.pop()
        there = array[_box(tuple((start - first).tolist()), piece)]
        np.maximum(there, piece, out=there)
    i, j, k = first.tolist()
    return Part(array, (i, j, k), header)


def _box(start: tuple[int, ...], array: NDArray[Any]) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for a, n in zip(start, array.shape, strict=True))


def cut_templates(volume: Part, name: str, *, split: bool, **provenance: Any) -> list[Template]:
    """Cut a label volume into templates.

    Parameters
    ----------
    volume : Part
    name : str
        Of the template; with several labels each is called ``name:label``.
    split : bool
        Whether each label is a template of its own, or all of them are one shape.
    **provenance
        ``source``, ``structure`` and ``licence`` of `Template`.

    Returns
    -------
    list of Template
        Empty if no voxel is set.
    """
    labels = volume.array
    if not labels.size:
        return []
    largest = int(labels.max())
    if not split or largest == 1:
        return [_template(name, labels, volume, provenance)]
    if largest > _MANY_LABELS:  # numbers with gaps: counted through, so that no list is as long as the largest one
        values, inverse = np.unique(np.append(labels.reshape(-1), 0), return_inverse=True)
        labels = inverse[:-1].reshape(labels.shape)
    else:
        values = np.arange(largest + 1)
    from scipy.ndimage import find_objects

    boxes = {number: part for number, part in enumerate(find_objects(labels), 1) if part is not None}
    if len(boxes) == 1:
        return [_template(name, labels, volume, provenance)]
    return [
        _template(f"{name}:{values[number]}", labels[part] == number, volume, provenance)
        for number, part in boxes.items()
    ]


def _template(name: str, mask: NDArray[Any], volume: Part, provenance: dict[str, Any]) -> Template:
    words, shape = pack(mask)
    count = int(np.count_nonzero(mask))
    return Template(name, words, shape, count, voxel_size_mm=voxel_size(volume.header.affine), **provenance)


def licence_of(root: Path, otherwise: str) -> str:
    """Return the first line of a ``LICENSE`` or ``LICENCE`` file in ``root`` or its parent, or ``otherwise``."""
    for folder in (root, root.parent):
        for path in sorted(folder.glob("LICEN[SC]E*")):
            try:
                lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            except OSError as error:
                raise InputError(f"cannot read the licence: {error.strerror}", where=path,
                                 remedy="check its permissions, or state the licence yourself") from error  # fmt: skip
            if text := next((line.strip() for line in lines if line.strip()), ""):
                return text[:200]
    return otherwise


def file_digest(path: Path) -> str:
    """Return the first 16 digits of a file's SHA-256: names what a template was cut from."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def files_fingerprint(root: Path, files: Iterable[Path]) -> str:
    """Return a SHA-256 over names and sizes: tells in seconds that a tree of many files was changed."""
    sha = hashlib.sha256()
    for path in files:
        try:
            size = path.stat().st_size
        except OSError:  # such as a link to nowhere: told with all other files that cannot be used
            size = -1
        sha.update(f"{path.relative_to(root).as_posix()} {size}\n".encode(errors="surrogateescape"))
    return sha.hexdigest()
