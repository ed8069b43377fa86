"""What a run is going to do, worked out and checked before it does anything."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from voxmint.datasets.format import Format, Target
from voxmint.datasets.ledger import NAME as LEDGER
from voxmint.datasets.ledger import Ledger
from voxmint.datasets.manifest import MANIFEST, RECIPE, REOPENED, SUMMARIES, manifest_head
from voxmint.errors import PlanError, RecipeError
from voxmint.files import storage_errors
from voxmint.recipe import parse_yaml, read_yaml
from voxmint.runs.identity import identity, note, refuse_another
from voxmint.runs.shard import apart, index_of
from voxmint.sample import Sampler
from voxmint.stores.place import Store

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
                f"where     {self.target.where}",
                f"samples   {self.target.count:,}{already}",
                f"to write  {_size(self.write_bytes)}",
                f"free      {_size(self.free_bytes)}",
                f"workers   {self.workers}",
            ]
        )


def make_plan(
    sampler: Sampler, store: Format, target: Target, count: int, workers: int, only: range | None = None
) -> Plan:
    """Work out what is left to do, of the indices ``only`` if given; changes nothing.

    Raises
    ------
    PlanError
        The data set cannot be stored so, would not fit on the disk, or the directory belongs to another one.
    """
    if not 0 < count <= len(sampler):
        raise PlanError("wrong number of samples", where=target.where, expected=f"1 to {len(sampler)}", got=count)
    if workers < 1:
        raise PlanError("a run needs at least one worker", where=target.where, got=workers, remedy="see --workers")
    target = replace(target, count=count, layout=sampler.layout())
    _check_writable(target)
    about = identity(sampler, store, target)
    there = _note_there(target)
    # what was begun keeps its own text: a recipe of an older version says less, and that must not change on the way
    target = replace(target, note=note(about) if there is None else there)
    store.check(target)
    if there is not None:
        refuse_another(parse_yaml(there.encode(), target.directory / RECIPE), about, target)
    finished = (target.directory / MANIFEST).exists()
    reopened = target.state / REOPENED
    path = reopened if reopened.exists() else target.state / LEDGER
    with Ledger(path, stored=lambda files: store.stored(target, files), reading=True) as ledger:
        done, rejected = len(ledger), len(ledger.rejected)
        left = sum(index not in ledger for index in only or range(count) if 0 <= index < count)
        for entry in apart(target, ledger):
            done, rejected = done + 1, rejected + ("rejected" in entry)
            left -= only is None or index_of(entry) in only
    if finished:
        done, rejected, left = count, int(manifest_head(Store(target.directory)).get("rejected", 0)), 0
    needed = store.remaining_bytes(target, count - left) if left else 0
    with storage_errors(target.directory, "asking for free space"):
        free = shutil.disk_usage(existing(target.directory)).free
    if needed and needed + max(_MARGIN_BYTES, int(needed * _MARGIN_SHARE)) > free:
        raise PlanError("the data set would not fit on this file system", where=target.where,
                        expected=f"{_size(needed)} free and a margin", got=f"{_size(free)} free",
                        remedy="free space, choose another directory, or make fewer samples")  # fmt: skip
    if there is None and not finished:
        _check_nothing_in_the_way(target, store)
    return Plan(target, done, finished, needed, free, workers, rejected)


def _check_writable(target: Target) -> None:
    nearest = existing(target.directory)
    if not nearest.is_dir():
        raise PlanError("not a directory", where=nearest, remedy="choose another directory")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PlanError("the directory cannot be written", where=nearest,
                        remedy="change its permissions or choose another one")  # fmt: skip


def _note_there(target: Target) -> str | None:
    """Return the text of the recipe that the directory has already, None if it has none."""
    path = target.directory / RECIPE
    if not path.exists():
        return None
    try:
        read_yaml(path)
        return path.read_text(encoding="utf-8")
    except (RecipeError, OSError) as error:
        what = error.what if isinstance(error, RecipeError) else str(error)
        raise PlanError(f"the directory holds another data set, whose recipe is unreadable: {what}", where=path,
                        remedy="choose another directory, or restore the file") from error  # fmt: skip


def _check_nothing_in_the_way(target: Target, store: Format) -> None:
    ours = [name for name in SUMMARIES if name != RECIPE and target.place.exists(name)]
    there = ours[0] if ours else next(iter(store.present(target)), None)
    if target.url is not None and target.place.exists(RECIPE):
        return  # begun from another machine or state folder: `begin` compares the recipes
    if there is not None:
        raise PlanError("files of this name exist and are of another origin", where=f"{target.where}/{there}",
                        remedy="move them away or choose another directory")  # fmt: skip


def existing(directory: Path) -> Path:
    """Return the nearest folder above that exists, or the path itself."""
    with storage_errors(directory, "looking for the folder"):
        path = directory.absolute()
        while not path.exists():
            path = path.parent
    return path


def _size(nbytes: int) -> str:
    for unit, scale in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if nbytes >= scale:
            return f"{nbytes / scale:,.1f} {unit}"
    return f"{nbytes:,} bytes"
