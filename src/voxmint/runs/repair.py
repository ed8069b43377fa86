"""Damaged samples of a data set made again, and nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import yaml

from voxmint.datasets.format import Format, Target
from voxmint.datasets.manifest import MANIFEST, RECIPE, REOPENED
from voxmint.errors import InputError, PlanError, RecipeError
from voxmint.files import write_atomically
from voxmint.recipe import read_yaml, write_yaml
from voxmint.runs.execute import execute
from voxmint.runs.lock import hold_lock
from voxmint.runs.plan import differences, identity
from voxmint.runs.progress import Progress
from voxmint.runs.reopen import readable_manifest, reopen
from voxmint.runs.verify import Report, verify
from voxmint.sample import JSON, Sampler


@dataclass(frozen=True)
class Repair:
    """What `repair` found and did.

    Attributes
    ----------
    found : Report
        What was wrong before.
    made : int
        Samples made again.
    rejected : int
        Samples that were rejected again, because the list of them was damaged.
    """

    found: Report
    made: int
    rejected: int = 0


def repair(
    sampler: Sampler,
    store: Format,
    directory: str | Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Repair:
    """Make a data set again as far as it is damaged; it ends in the bytes that it had when it was made.

    While this goes on the data set is an unfinished one: its manifest is gone, and files of many samples have their
    unfinished names. After a kill, `repair` or `execute` goes on. A data set whose run has not ended is repaired and
    then finished. Samples in files of their own whose checksum is lost are made again, and so is everything when
    ``records.jsonl`` differs from its checksum, since nothing tells which record is wrong.

    Parameters
    ----------
    sampler : Sampler
        What made the data set, built again from its recipe.
    store : Format
        Its format.
    directory : path
        Where it lies. Files that do not belong to it are left alone.
    workers, progress
        As for `voxmint.runs.execute.execute`.

    Raises
    ------
    InputError
        There is no data set in this directory, or nothing tells how many samples it has.
    PlanError
        It was made from another recipe than the sampler's, or a run is active in its directory.
    RunError, StorageError
        As for `execute`.
    """
    directory = Path(directory).absolute()
    head, entries = readable_manifest(directory)
    count = _count(directory, head)
    target = Target(directory, count, sampler.layout(), write_yaml(identity(sampler, store, count)))
    _check_same(target, entries)
    found = verify(directory, progress=progress)
    if found.ok and found.finished:
        return Repair(found, 0)
    target.state.mkdir(exist_ok=True)
    with hold_lock(target.state):
        if (directory / MANIFEST).exists() or not (target.state / REOPENED).exists():
            reopen(target, store)
        if not (directory / RECIPE).exists() or (directory / RECIPE).read_bytes() != target.note.encode():
            write_atomically(directory / RECIPE, [target.note.encode()])
    result = execute(sampler, store, directory, count=count, workers=workers, progress=progress)
    return Repair(found, result.made, result.rejected)


def _count(directory: Path, head: JSON) -> int:
    try:
        return int(head["count"] if head else read_yaml(directory / RECIPE)["count"])
    except (RecipeError, KeyError, TypeError, ValueError) as error:
        raise InputError("no data set in this directory, or none that can be repaired", where=directory,
                         expected=f"{MANIFEST} or {RECIPE} to tell the number of samples",
                         remedy="restore one of them from a copy") from error  # fmt: skip


def _check_same(target: Target, entries: list[JSON]) -> None:
    """Refuse a sampler that did not make this data set; a damaged recipe is told from another one by its checksum."""
    note = target.note.encode()
    if any(entry["file"] == RECIPE and entry["sha256"] == hashlib.sha256(note).hexdigest() for entry in entries):
        return
    try:
        different = list(differences(read_yaml(target.directory / RECIPE), yaml.safe_load(target.note)))
    except RecipeError as error:
        different = [error.what]
    if different:
        raise PlanError("the data set was made from another recipe", where=target.directory,
                        expected="the recipe, count and format it was made from", got="; ".join(different[:8]),
                        remedy="build the sampler from recipe.yaml of the data set")  # fmt: skip
