"""Templates from any folder of binary masks or multi-label NIfTI files, or from one such file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from voxmint.errors import InputError
from voxmint.files import reading_errors
from voxmint.templates.packing import Template
from voxmint.templates.reading import (
    cut_templates,
    group_structures,
    is_nifti,
    licence_of,
    read_usable,
)
from voxmint.templates.source import FileSource
from voxmint.templates.totalsegmentator import TotalSegmentatorSource, find_subjects


class FolderSource(FileSource):
    """Each item is a file, or the merged ribs or vertebrae of one folder; each label is a template.

    Templates are called by the relative path without suffix, followed by ``:label`` where a file has several labels.

    Parameters
    ----------
    root : path
        A folder, searched with its subfolders, or one NIfTI file.
    licence : str, optional
        Terms of use to record. Default: the first line of a ``LICENSE`` file in the folder or its parent, or
        ``not stated``.

    Raises
    ------
    InputError
        There is no NIfTI file.
    """

    generator: ClassVar[str] = "templates.folder"
    kind: ClassVar[str] = "folder"

    def __init__(self, root: str | Path, licence: str | None = None) -> None:
        self.root = Path(root)
        self.items = [
            ((folder / structure).relative_to(self.folder).as_posix(), paths)
            for folder, files in _folders(self.root)
            for structure, paths in group_structures(files)
        ]
        if not self.items:
            raise InputError("no label files", where=self.root, expected=".nii or .nii.gz masks or label volumes",
                             remedy="give a folder of NIfTI masks, or use procedural templates")  # fmt: skip
        self.licence = licence_of(self.folder, "not stated") if licence is None else licence

    def __len__(self) -> int:
        return len(self.items)

    def key(self, index: int) -> str:
        """Return the item's relative path, with ``__`` between folders."""
        return self.items[index][0].replace("/", "__")

    def templates(self, index: int, reads: dict[str, str], unusable: dict[str, str]) -> list[Template]:
        """Read one file or one merged group."""
        name, paths = self.items[index]
        if (union := read_usable(paths, self.folder, reads, unusable)) is None:
            return []
        source = paths[0] if len(paths) == 1 else paths[0].parent
        return cut_templates(union, name, split=True, structure=name.rsplit("/", 1)[-1],
                             source=source.relative_to(self.folder).as_posix(), licence=self.licence)  # fmt: skip

    def files(self) -> Iterator[Path]:
        """Yield all files, item by item."""
        return (path for _, paths in self.items for path in paths)


def open_source(path: str | Path, licence: str | None = None, *, skip_unusable: bool = False) -> FileSource:
    """Return the source that fits: a TotalSegmentator tree, or a folder that holds one; any folder; a file.

    With ``skip_unusable`` files that cannot be used are left out, and listed in the record of their item.

    Raises
    ------
    InputError
        ``path`` does not exist or holds nothing to read.
    """
    path = Path(path)
    with reading_errors(path, InputError):
        if not path.exists():
            raise InputError("no such file or folder", where=path, remedy="correct the path")
        for root in (path, *(sorted(path.iterdir()) if path.is_dir() else ())):
            if find_subjects(root):
                source: FileSource = TotalSegmentatorSource(root, licence)
                break
        else:
            segmentations = path / "segmentations"  # a single subject: its image beside them is no label file
            source = FolderSource(segmentations if segmentations.is_dir() else path, licence)
    source.skip_unusable = skip_unusable
    return source


def _folders(root: Path) -> list[tuple[Path, list[Path]]]:
    if not root.is_dir():
        return [(root.parent, [root])] if is_nifti(root) else []
    found = []
    for folder, inner, names in os.walk(root, onerror=_told):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        found.append((Path(folder), [path for name in names if is_nifti(path := Path(folder, name))]))
    return found


def _told(error: OSError) -> None:
    """Tell of a folder that cannot be listed, which would be left out otherwise."""
    with reading_errors(Path(str(error.filename)), InputError):
        raise error
