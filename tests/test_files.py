"""Names that no file can have, and what is there instead of a file, told by all readers in the same way."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from voxmint.errors import InputError, RecipeError, StorageError, TemplateBankError, VoxmintError
from voxmint.files import sync_directory
from voxmint.nifti.files import read_labels
from voxmint.recipe import read_yaml
from voxmint.templates.bank import TemplateBank
from voxmint.templates.folders import open_source

READERS = {
    "labels": (read_labels, InputError),
    "recipe": (read_yaml, RecipeError),
    "bank": (TemplateBank.open, TemplateBankError),
    "source": (open_source, InputError),
}


def in_a_loop(folder: Path) -> Path:
    (folder / "loop.nii").symlink_to("loop.nii")
    return folder / "loop.nii"


def in_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file/a.nii"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.nii")
    return folder / "pipe.nii"


def forbidden(folder: Path) -> Path:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (folder / "secret.nii").write_text("a: 1")
    (folder / "secret.nii").chmod(0)
    return folder / "secret.nii"


PATHS: dict[str, Callable[[Path], Path]] = {
    "missing": lambda folder: folder / "missing.nii",
    "dangling": lambda folder: (folder / "a.nii").symlink_to("nowhere") or folder / "a.nii",  # type: ignore[func-returns-value]
    "folder": lambda folder: folder,
    "long name": lambda folder: folder / f"{'n' * 256}.nii",
    "long path": lambda folder: folder / "/".join(["d" * 200] * 30),
    "not UTF-8": lambda folder: folder / os.fsdecode(b"\xff\xfe.nii"),
    "surrogate": lambda folder: folder / "\ud800.nii",
    "nul": lambda folder: folder / "a\0b.nii",
    "loop": in_a_loop,
    "in a file": in_a_file,
    "pipe": pipe,
    "forbidden": forbidden,
}


def first_of(found: Any) -> None:
    """Read on: a source reads its files when asked for an item."""
    found[0]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("reader", READERS)
def test_odd_paths_are_told(tmp_path: Path, reader: str, path: str) -> None:
    """Each is an error of the house with a remedy, never another exception or a wait."""
    read, kind = READERS[reader]
    given = PATHS[path](tmp_path)
    with pytest.raises(kind) as caught:
        first_of(read(given))
    assert isinstance(caught.value, VoxmintError)
    assert caught.value.remedy
    assert str(caught.value.where)


def test_a_folder_that_cannot_be_flushed_is_named(tmp_path: Path) -> None:
    """Like any other failure of the disk."""
    with pytest.raises(StorageError, match="gone: flushing names to the disk failed"):
        sync_directory(tmp_path / "gone")
