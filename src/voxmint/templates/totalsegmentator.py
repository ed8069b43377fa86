"""Templates from a TotalSegmentator tree, v1 or v2: ``<root>/s*/segmentations/<structure>.nii.gz``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from voxmint.errors import InputError
from voxmint.files import reading_errors
from voxmint.nifti.files import read_labels, write_nifti
from voxmint.templates.packing import Template
from voxmint.templates.reading import (
    MERGED,
    cut_templates,
    group_structures,
    is_nifti,
    licence_of,
    read_union,
    read_usable,
    structure_of,
)
from voxmint.templates.source import FileSource

LICENCE = "TotalSegmentator data set, CC BY 4.0"


class TotalSegmentatorSource(FileSource):
    """Each item is a subject; its structures are templates called ``<subject>/<structure>``.

    Ribs and vertebrae are merged into one shape a subject. Nothing of the tree is changed, images are never read.

    Parameters
    ----------
    root : path
        The folder of the subjects.
    licence : str, optional
        Terms of use to record. Default: the first line of a ``LICENSE`` file in ``root`` or its parent, or the data
        set's own licence.

    Raises
    ------
    InputError
        There are no subjects.
    """

    generator: ClassVar[str] = "templates.totalsegmentator"
    kind: ClassVar[str] = "totalsegmentator"

    def __init__(self, root: str | Path, licence: str | None = None) -> None:
        self.root = Path(root)
        self.subjects = find_subjects(self.root)
        if not self.subjects:
            raise InputError("no subjects", where=self.root, expected="folders s*/segmentations/ of .nii.gz masks",
                             remedy="give the folder that holds the unzipped subjects s0000, s0001, ...")  # fmt: skip
        self.licence = licence_of(self.root, LICENCE) if licence is None else licence

    def __len__(self) -> int:
        return len(self.subjects)

    def key(self, index: int) -> str:
        """Return the subject's name."""
        return self.subjects[index].name

    def templates(self, index: int, reads: dict[str, str], unusable: dict[str, str]) -> list[Template]:
        """Read the structures of a subject."""
        subject = self.subjects[index]
        found = []
        for structure, paths in group_structures(_masks(subject)):
            source = paths[0] if len(paths) == 1 else paths[0].parent
            if (union := read_usable(paths, self.root, reads, unusable)) is None:
                continue
            found += cut_templates(union, f"{subject.name}/{structure}", split=False, structure=structure,
                                   source=source.relative_to(self.root).as_posix(), licence=self.licence)  # fmt: skip
        return found

    def files(self) -> Iterator[Path]:
        """Yield the masks that templates are made of, subject by subject; parts of what is merged already are not."""
        groups = (group_structures(_masks(subject)) for subject in self.subjects)
        return (path for structures in groups for _, paths in structures for path in paths)


def find_subjects(root: Path) -> list[Path]:
    """Return the subjects' folders in ``root``, sorted; none if it is no TotalSegmentator tree."""
    return sorted(path for path in root.glob("s*") if (path / "segmentations").is_dir()) if root.is_dir() else []


def merge_structures(subject: str | Path, *, skip_unusable: bool = False) -> dict[Path, list[Path]]:
    """Write ``all_ribs.nii.gz`` and ``all_vertebrae.nii.gz`` beside the single masks of a subject.

    Parameters
    ----------
    subject : path
        The subject's folder, which holds ``segmentations/``.
    skip_unusable : bool
        Whether nothing is merged of what has a part that cannot be used, rather than an error: the bank tells of it.

    Returns
    -------
    dict of Path to list of Path
        Each merged file, read back and found equal to the union of the parts, and these parts.

    Raises
    ------
    InputError
        A part cannot be read, shapes differ, or a merged file is there already and holds something else.
    StorageError
        The merged file cannot be written.
    """
    subject = Path(subject)
    merged: dict[Path, list[Path]] = {}
    for structure, prefix in MERGED.items():
        parts = [path for path in _masks(subject) if structure_of(path).startswith(prefix)]
        if not parts:
            continue
        target = subject / "segmentations" / f"{structure}.nii.gz"
        try:
            union, there = read_union(parts), read_labels(target).array if target.exists() else None
        except InputError:
            if skip_unusable:
                continue
            raise
        mask = (union.whole() != 0).view(np.uint8)
        if there is None:
            write_nifti(target, mask, union.header.affine)
            there = read_labels(target).array
        if not np.array_equal(there, mask):
            raise InputError("is not the union of the single masks beside it", where=target,
                             remedy="move it away, and it is made again")  # fmt: skip
        merged[target] = parts
    return merged


def _masks(subject: Path) -> list[Path]:
    folder = subject / "segmentations"
    with reading_errors(folder, InputError):
        return sorted(path for path in folder.iterdir() if is_nifti(path))
