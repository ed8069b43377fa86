"""What a run is going to do, worked out and checked before it does anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from voxmint.datasets.format import Format, Target
from voxmint.datasets.ledger import NAME as LEDGER
from voxmint.datasets.ledger import Ledger
from voxmint.datasets.manifest import MANIFEST, RECIPE, RECORDS, REJECTED, REOPENED, read_manifest
from voxmint.errors import PlanError, RecipeError
from voxmint.recipe import read_yaml, write_yaml
from voxmint.sample import JSON, Sampler

_MARGIN_BYTES = 16 << 20
_MARGIN_SHARE = 0.01


@dataclass(frozen=True)
class Plan:
    """What a run is going to do.

    Attributes
    ----------
    target : Target
        Where, and how many samples.
    done : int
        Samples that an earlier run stored or rejected already.
    finished : bool
        The data set is complete: nothing is left to do.
    write_bytes : int
        How much the run will add to the disk (exact for HDF5, an estimate for compressed files). Formats of one file
        for all samples need all of it, others only what this run makes.
    free_bytes : int
        Free bytes of the target's file system.
    workers : int
        Worker processes.
    rejected : int
        How many of those done were rejected.
    """

    target: Target
    done: int
    finished: bool
    write_bytes: int
    free_bytes: int
    workers: int
    rejected: int = 0

    def __str__(self) -> str:
        already = f", {self.done - self.rejected:,} of them stored already" if self.done else ""
        already += f", {self.rejected:,} rejected" if self.rejected else ""
        return "\n".join(
            [
                f"where     {self.target.directory}",
                f"samples   {self.target.count:,}{already}",
                f"to write  {_size(self.write_bytes)}",
                f"free      {_size(self.free_bytes)}",
                f"workers   {self.workers}",
            ]
        )


def identity(sampler: Sampler, store: Format, count: int) -> JSON:
    """Return all that defines a data set, in the order of ``recipe.yaml``."""
    arrays = {name: {"shape": list(shape), "dtype": dtype} for name, (shape, dtype) in sampler.layout().items()}
    about = {"voxmint": version("voxmint"), **sampler.definition()}
    return {**about, "count": count, "arrays": arrays, "format": store.spec()}


def make_plan(
    sampler: Sampler, store: Format, directory: Path, count: int, workers: int, only: range | None = None
) -> Plan:
    """Work out what is left to do, of the indices ``only`` if given; changes nothing.

    Raises
    ------
    PlanError
        The data set cannot be stored so, would not fit on the disk, or the directory belongs to another one.
    """
    target = Target(directory, count, sampler.layout(), write_yaml(identity(sampler, store, count)))
    if not 0 < count <= len(sampler):
        raise PlanError("wrong number of samples", where=directory, expected=f"1 to {len(sampler)}", got=count)
    if workers < 1:
        raise PlanError("a run needs at least one worker", where=directory, got=workers)
    store.check(target)
    known = _check_directory(target)
    finished = (directory / MANIFEST).exists()
    reopened = target.state / REOPENED
    path = reopened if reopened.exists() else target.state / LEDGER
    with Ledger(path, stored=lambda files: store.stored(target, files), reading=True) as ledger:
        done, rejected = len(ledger), len(ledger.rejected)
        left = sum(index not in ledger for index in only or range(count) if 0 <= index < count)
    if finished:
        done, rejected, left = count, int(read_manifest(directory)[0].get("rejected", 0)), 0
    needed = store.remaining_bytes(target, count - left) if left else 0
    free = shutil.disk_usage(_existing(directory)).free
    if needed and needed + max(_MARGIN_BYTES, int(needed * _MARGIN_SHARE)) > free:
        raise PlanError(
            "the data set would not fit on this file system",
            where=directory,
            expected=f"{_size(needed)} free and a margin",
            got=f"{_size(free)} free",
            remedy="free space, choose another directory, or make fewer samples",
        )
    if not known and not finished:
        _check_nothing_in_the_way(target, store)
    return Plan(target, done, finished, needed, free, workers, rejected)


def differences(there: Any, asked: Any, name: str = "") -> Iterator[str]:
    """Yield ``field: value there, value asked`` for every field in which two recipes differ."""
    if isinstance(there, dict) and isinstance(asked, dict):
        for key in [*there, *(key for key in asked if key not in there)]:
            yield from differences(there.get(key), asked.get(key), f"{name}.{key}" if name else str(key))
    elif there != asked:
        yield f"{name}: {there!r} there, {asked!r} asked"


def _check_directory(target: Target) -> bool:
    """Return whether the directory belongs to this very data set already."""
    directory, nearest = target.directory, _existing(target.directory)
    if not nearest.is_dir():
        raise PlanError("not a directory", where=nearest, remedy="choose another directory")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PlanError(
            "the directory cannot be written", where=nearest, remedy="change its permissions or choose another one"
        )
    recipe = directory / RECIPE
    if not recipe.exists():
        return False
    try:
        there = read_yaml(recipe)
    except RecipeError as error:
        raise PlanError(
            f"the directory holds another data set, whose recipe is unreadable: {error.what}",
            where=recipe,
            remedy="choose another directory, or restore the file",
        ) from error
    different = list(differences(there, yaml.safe_load(target.note)))
    if different:
        more = f" (and {len(different) - 8} more)" if len(different) > 8 else ""
        raise PlanError(
            "the directory holds another data set",
            where=directory,
            expected="the same recipe, count and format",
            got="; ".join(different[:8]) + more,
            remedy="choose another directory, or the same recipe",
        )
    return True


def _check_nothing_in_the_way(target: Target, store: Format) -> None:
    ours = [path for name in (RECORDS, REJECTED) if (path := target.directory / name).exists()]
    there = [*store.present(target), *ours]
    if there:
        raise PlanError(
            "files of this name exist and are of another origin",
            where=there[0],
            got=f"{len(there)} such files",
            remedy="move them away or choose another directory",
        )


def _existing(directory: Path) -> Path:
    path = directory.absolute()
    while not path.exists():
        path = path.parent
    return path


def _size(nbytes: int) -> str:
    for unit, scale in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if nbytes >= scale:
            return f"{nbytes / scale:,.1f} {unit}"
    return f"{nbytes:,} bytes"
