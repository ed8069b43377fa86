"""Merged ribs and vertebrae beside the single masks of a TotalSegmentator tree: what the published first step does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from voxmint.datasets.manifest import MANIFEST
from voxmint.errors import TemplateBankError
from voxmint.files import storage_errors
from voxmint.make.templates import BANK_IN_TREE, is_stale
from voxmint.system import cores
from voxmint.templates.bank import TemplateBank


def merge_tree(tree: str | Path, *, workers: int | None = None, skip_unusable: bool = False) -> dict[Path, list[Path]]:
    """Write merged ribs and vertebrae beside the single masks of every subject of a TotalSegmentator tree.

    Parameters
    ----------
    tree : path
        The folder of the subjects. Nothing that is in it is changed.
    workers : int, optional
        Subjects worked on at once; one a processor core by default.
    skip_unusable : bool
        Whether nothing is merged of what has a part that cannot be used, rather than an error: the bank tells of it.

    Returns
    -------
    dict of Path to list of Path
        Each merged file, read back and found equal to the union of its parts, and these parts.
    """
    from voxmint.templates.totalsegmentator import TotalSegmentatorSource, merge_structures

    with ThreadPoolExecutor(workers or cores()) as pool:
        merge = partial(merge_structures, skip_unusable=skip_unusable)
        merged = pool.map(merge, TotalSegmentatorSource(tree).subjects)
        return {path: parts for of_subject in merged for path, parts in of_subject.items()}


def delete_merged_parts(tree: str | Path, merged: dict[Path, list[Path]]) -> None:
    """Remove the single masks of what `merge_tree` merged, after the bank beside the tree has proven to hold all.

    Raises
    ------
    InputError
        The bank is not there, unfinished, damaged, or older than the tree: nothing is removed then.
    StorageError
        A file cannot be removed.
    """
    from voxmint.templates.folders import open_source

    bank = Path(tree) / BANK_IN_TREE
    TemplateBank.open(bank).verify()
    if not (bank / MANIFEST).is_file() or is_stale(open_source(tree), bank):
        raise TemplateBankError("the bank is unfinished, or older than its masks: none was deleted", where=bank,
                                remedy="run the same command again")  # fmt: skip
    for parts in merged.values():
        for part in parts:
            with storage_errors(part, "removing what was merged"):
                part.unlink()
