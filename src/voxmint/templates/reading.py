"""From label files to templates: which files make one shape, and how labels are cut apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import InputError
from voxmint.nifti.files import LabelVolume, read_labels
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


def read_union(paths: list[Path]) -> tuple[LabelVolume, dict[Path, str]]:
    """Read one file, or the union of several masks as a mask of 0 and 1.

    Returns
    -------
    LabelVolume, dict of Path to str
        What was read, and the digest of each file.

    Raises
    ------
    InputError
        A file cannot be read, or their shapes differ.
    """
    first = read_labels(paths[0])
    digests = {paths[0]: first.digest}
    if len(paths) == 1:
        return first, digests
    union = (first.array != 0).view(np.uint8)
    for path in paths[1:]:
        volume = read_labels(path)
        part, digests[path] = volume.array, volume.digest
        if part.shape != union.shape:
            raise InputError("masks of one subject differ in shape and cannot be merged", where=path,
                             expected=f"{union.shape} as in {paths[0]}", got=part.shape,
                             remedy="resample or remove one of these files")  # fmt: skip
        np.maximum(
            union, part if part.dtype == np.uint8 and part.max() <= 1 else part != 0, out=union, casting="unsafe"
        )
    return LabelVolume(union, first.affine, first.voxel_size_mm), digests


def cut_templates(volume: LabelVolume, name: str, *, split: bool, **provenance: Any) -> list[Template]:
    """Cut a label volume into templates.

    Parameters
    ----------
    volume : LabelVolume
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
    box = bounding_box(volume.array)
    if box is None:
        return []
    labels = volume.array[box]
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


def _template(name: str, mask: NDArray[Any], volume: LabelVolume, provenance: dict[str, Any]) -> Template:
    words, shape = pack(mask)
    count = int(np.count_nonzero(mask))
    return Template(name, words, shape, count, voxel_size_mm=volume.voxel_size_mm, **provenance)


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


def files_fingerprint(root: Path, files: Iterable[Path]) -> str:
    """Return a SHA-256 over names and sizes: tells in seconds that a tree of many files was changed."""
    sha = hashlib.sha256()
    for path in files:
        sha.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode())
    return sha.hexdigest()
