"""What all jobs share: seeds, and what belongs to a data set beside its samples."""

from __future__ import annotations

from pathlib import Path

from voxmint.datasets.format import Output
from voxmint.datasets.manifest import MANIFEST, Also
from voxmint.datasets.stored import StoredDataset
from voxmint.errors import RecipeError
from voxmint.make.stored import MONTAGE, draw
from voxmint.runs.verify import verify

TEMPLATES_FOLDER = "templates"
_LARGEST_SEED = 2**63 - 1


def checked_seed(seed: int) -> int:
    """Return the seed if it can be one."""
    if not 0 <= seed <= _LARGEST_SEED:
        raise RecipeError("impossible seed", where="--seed", expected=f"0 to {_LARGEST_SEED}", got=seed)
    return seed


def pictures_of_pairs(output: Output) -> Also:
    """Return what draws a montage, and names the files of a bank in the data set's own folder.

    The bank is read again before its files become part of the data set: its checksums know more than its fingerprint.
    """

    def also() -> list[str]:
        bank = output.directory / TEMPLATES_FOLDER
        if (bank / MANIFEST).is_file():
            verify(bank).raise_if_wrong()
        draw(StoredDataset.of(output), output.directory / MONTAGE)
        return [MONTAGE, *files_below(output.directory, TEMPLATES_FOLDER)]

    return also


def files_below(folder: Path, name: str) -> list[str]:
    """Return the names of all files of an inner folder, relative to the outer one, but those of unfinished runs."""
    found = (path.relative_to(folder) for path in (folder / name).rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found if ".voxmint" not in path.parts)
