"""Template banks: from label files, from nothing, or found where they lie."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from voxmint.errors import PlanError, TemplateBankError
from voxmint.make.common import checked_seed
from voxmint.runs.execute import RunResult, execute
from voxmint.runs.progress import Progress
from voxmint.templates.bank import FILE_NAME, TemplateBank

PROCEDURAL = "procedural"
PROCEDURAL_COUNT = 256
TEMPLATES_FOLDER = "templates"
BANK_IN_TREE = "voxmint_bank"
"""Folder of a bank that lies beside the subjects it was made from; it is used in place of them."""


@dataclass(frozen=True)
class UnmadeBank:
    """Stands for a bank in a plan that is made before the bank is."""

    path: Path
    fingerprint: str = "known when the templates are prepared"

    def __len__(self) -> int:
        return 0


def prepare_templates(
    tree: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    licence: str | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> RunResult:
    """Make a template bank from label files.

    Parameters
    ----------
    tree : path
        A TotalSegmentator tree, a folder of masks or label volumes, or one NIfTI file. It is only read.
    out : path
        Folder of the bank.
    workers : int, optional
        Worker processes; one a processor core by default.
    licence : str, optional
        Licence note to record instead of the one found.
    progress, dry_run
        As for `voxmint.runs.execute.execute`.
    """
    from voxmint.datasets.bank import BankFormat
    from voxmint.templates.folders import open_source

    source = open_source(tree, licence=licence)
    target = _outside(out, tree)
    try:
        return execute(source, BankFormat(), target, workers=workers, progress=progress, dry_run=dry_run)
    except TemplateBankError as error:  # found out when the bank is put together, far from the tree
        error.where = tree
        raise


def merge_tree(tree: str | Path, *, workers: int | None = None, delete_sources: bool = False) -> list[Path]:
    """Write merged ribs and vertebrae beside the single masks of every subject of a TotalSegmentator tree.

    Parameters
    ----------
    tree : path
        The folder of the subjects. Nothing that is in it is changed.
    workers : int, optional
        Subjects worked on at once; one a processor core by default.
    delete_sources : bool
        Remove the single masks of a subject once their merged file was read back and found equal to their union.

    Returns
    -------
    list of Path
        The merged files.
    """
    from voxmint.templates.totalsegmentator import TotalSegmentatorSource, merge_structures

    def merge(subject: Path) -> list[Path]:
        merged = merge_structures(subject)
        if delete_sources:
            for parts in merged.values():
                for part in parts:
                    part.unlink()
        return list(merged)

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        return [path for paths in pool.map(merge, TotalSegmentatorSource(tree).subjects) for path in paths]


def procedural_templates(
    out: str | Path,
    count: int = PROCEDURAL_COUNT,
    seed: int = 0,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> RunResult:
    """Make a template bank of ``count`` procedural shapes.

    Parameters
    ----------
    out : path
        Folder of the bank.
    count, seed : int
        Number of shapes, and the seed they grow from.
    workers, progress, dry_run
        As for `prepare_templates`.
    """
    from voxmint.datasets.bank import BankFormat
    from voxmint.templates.procedural.source import ProceduralSource

    source = ProceduralSource(count, checked_seed(seed))
    return execute(source, BankFormat(), out, workers=workers, progress=progress, dry_run=dry_run)


def find_bank(
    templates: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> TemplateBank:
    """Open the bank that ``templates`` names; shapes and trees become a bank in ``<out>/templates`` first.

    Parameters
    ----------
    templates : str or path
        ``procedural``, a bank, a tree with a bank in it, or label files as for `prepare_templates`.
    out : path
        Folder of the data set.
    workers, progress, dry_run
        As for `prepare_templates`; a dry run does not make a bank.
    """
    folder = Path(out) / TEMPLATES_FOLDER
    beside = Path(templates) / BANK_IN_TREE
    if str(templates) == PROCEDURAL:
        result = procedural_templates(folder, workers=workers, progress=progress, dry_run=dry_run)
    elif is_bank(Path(templates)) or is_bank(beside):
        return TemplateBank.open(beside if is_bank(beside) else templates)
    else:
        result = prepare_templates(templates, folder, workers=workers, progress=progress, dry_run=dry_run)
    return TemplateBank.open(folder) if result.complete else cast(TemplateBank, UnmadeBank(folder))


def is_bank(path: Path) -> bool:
    """Tell whether a path is a template bank: its folder, or the file in it."""
    if path.is_dir():
        return (path / FILE_NAME).is_file()
    return path.is_file() and not path.name.endswith((".nii", ".nii.gz"))


def _outside(out: str | Path, tree: str | Path) -> Path:
    """Refuse to put a bank where it would be read as part of its own source."""
    out, tree = Path(out), Path(tree)
    if out.resolve() == tree.resolve():
        raise PlanError("a bank cannot lie in the very folder it is made from", where=out,
                        remedy="choose another folder for the bank, for example one below it")  # fmt: skip
    return out
