"""What a run is going to do, worked out and checked before it does anything."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from voxmint.datasets.format import Format, Output, Reserving, format_from_spec
from voxmint.datasets.ledger import Ledger, index_of
from voxmint.datasets.manifest import MANIFEST, RECIPE, SUMMARIES, manifest_head
from voxmint.errors import PlanError, RecipeError
from voxmint.files import storage_errors
from voxmint.recipe import read_yaml
from voxmint.runs.grow import GIVES_WAY, GROWS, as_grown, has_grown
from voxmint.runs.identity import identity, note, refuse_another
from voxmint.runs.shard import Shard, apart
from voxmint.sample import JSON, Sampler
from voxmint.stores.place import Place
from voxmint.system import HAS_RUNS

_MARGIN_BYTES = 16 << 20
_MARGIN_SHARE = 0.01


@dataclass(frozen=True)
class Plan:
    """What a run is going to do.

    Attributes
    ----------
    output : Output
        Where, and how many samples.
    done : int
        Samples that an earlier run stored or rejected already.
    finished : bool
        The data set is complete: nothing is left to do.
    write_bytes : int
        How much the run will add to the disk (exact for HDF5, an estimate for compressed files). Formats of one file
        for all samples need all of it, others only what this run makes.
    free_bytes : int
        Free bytes of the output's file system.
    workers : int
        Worker processes.
    rejected : int
        How many of those done were rejected.
    change : {"", "grows", "gives way"}
        What becomes of a data set that is there, and is not the one that is asked for.
    """

    output: Output
    done: int
    finished: bool
    write_bytes: int
    free_bytes: int
    workers: int
    rejected: int = 0
    change: str = ""

    def __str__(self) -> str:
        already = f", {self.done - self.rejected:,} of them stored already" if self.done else ""
        already += f", {self.rejected:,} rejected" if self.rejected else ""
        already += "; the data set that is there gives way" if self.change == GIVES_WAY else ""
        return "\n".join(
            [
                f"where     {self.output.where}",
                f"samples   {self.output.count:,}{already}",
                f"to write  {_size(self.write_bytes)}",
                f"free      {_size(self.free_bytes)}",
                f"workers   {self.workers}",
            ]
        )


def settle(
    sampler: Sampler, format: Format, output: Output, count: int, workers: int, *, overwrite: bool = False
) -> tuple[Output, Format, str]:
    """Return the output with all that is known of the data set, unless it cannot be there; changes nothing.

    Also returns the format with which it was begun, of which an older version may say less, and what becomes of another
    data set that is there: it grows, or it gives way if that is asked for.

    Raises
    ------
    PlanError
        The numbers are wrong, the data set cannot be stored so, or the directory belongs to another one.
    """
    if not 0 < count <= len(sampler):
        most = f"1 to {len(sampler):,}" if len(sampler) else "at least 1"
        raise PlanError("wrong number of samples", where=output.where, expected=most, got=count,
                        remedy="see --count (--n_ensembles of the published script)")  # fmt: skip
    if workers < 1:
        raise PlanError("a run needs at least one worker", where=output.where, got=workers, remedy="see --workers")
    if not HAS_RUNS:
        raise PlanError("runs need worker processes that this system cannot wait for", where=output.where,
                        expected="Linux or macOS", remedy="run the command in WSL2")  # fmt: skip
    output = replace(output, count=count, layout=sampler.layout())
    _check_writable(output)
    about = identity(sampler, format, output)
    text, recorded = _recipe_there(output) or ("", None)
    change = ""
    if recorded is not None:
        change = GIVES_WAY if overwrite else GROWS if has_grown(recorded, about, sampler) else ""
        about = as_grown(recorded, about) if change == GROWS else about
    # what was begun keeps its own text: a recipe of an older version says less, and that must not change on the way
    output = replace(output, note=note(about) if recorded is None or change else text)
    format.check(output)
    if recorded is not None and not change:
        refuse_another(recorded, about, output)
    elif recorded is None and not (output.directory / MANIFEST).exists():
        _check_nothing_in_the_way(output, format)
    spec = (about if recorded is None or change else recorded)["format"]
    return output, format if spec == format.spec() else format_from_spec(spec), change


def make_plan(format: Format, output: Output, workers: int, shard: Shard, ledger: Ledger, change: str = "") -> Plan:
    """Work out what is left to do of a shard; changes nothing.

    Parameters
    ----------
    format, output, workers
        As for `settle`, and what it returned.
    shard : Shard
        What is to be made now.
    ledger : Ledger
        What the data set has already.
    change : str
        As `settle` returned it.

    Raises
    ------
    PlanError
        What is left would not fit on the disk.
    """
    if change == GIVES_WAY:
        needed = format.remaining_bytes(output, 0)
        return Plan(output, 0, False, needed, _room_for(output, needed), workers, change=change)
    finished = (output.directory / MANIFEST).exists()
    done, rejected = len(ledger), len(ledger.rejected)
    left = sum(index not in ledger for index in shard.within(output.count))
    for entry in apart(output, ledger):
        done, rejected = done + 1, rejected + ("rejected" in entry)
        left -= index_of(entry) in shard.within(output.count)
    if finished:
        head = manifest_head(Place(output.directory))
        done, rejected = int(head.get("count", output.count)), int(head.get("rejected", 0))
        left, finished = min(left, output.count - done), not change
    copied = change == GROWS and isinstance(format, Reserving)  # to new files: the old ones are no part of them
    room = replace(output, directory=output.state / "copy") if copied else output
    needed = format.remaining_bytes(room, output.count - left) if left else 0
    return Plan(output, done, finished, needed, _room_for(output, needed), workers, rejected, change)


def _room_for(output: Output, needed: int) -> int:
    """Return the free bytes of the file system, which must be enough."""
    with storage_errors(output.directory, "asking for free space"):
        free = shutil.disk_usage(existing(output.directory)).free
    if needed and needed + max(_MARGIN_BYTES, int(needed * _MARGIN_SHARE)) > free:
        raise PlanError("the data set would not fit on this file system", where=output.where,
                        expected=f"{_size(needed)} free and a margin", got=f"{_size(free)} free",
                        remedy="free space, choose another directory, or make fewer samples")  # fmt: skip
    return free


def _check_writable(output: Output) -> None:
    nearest = existing(output.directory)
    if not nearest.is_dir():
        raise PlanError("not a directory", where=nearest, remedy="choose another directory")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PlanError("the directory cannot be written", where=nearest,
                        remedy="change its permissions or choose another one")  # fmt: skip


def _recipe_there(output: Output) -> tuple[str, JSON] | None:
    """Return the text of the recipe that the directory has already, and what it says; None if it has none."""
    path = output.directory / RECIPE
    if not path.exists():
        return None
    try:
        values = read_yaml(path)  # with distrust, and so first
        return path.read_text(encoding="utf-8"), values
    except (RecipeError, OSError) as error:
        what = error.what if isinstance(error, RecipeError) else str(error)
        raise PlanError(f"the directory holds another data set, whose recipe is unreadable: {what}", where=path,
                        remedy="choose another directory, or restore the file") from error  # fmt: skip


def _check_nothing_in_the_way(output: Output, format: Format) -> None:
    ours = [name for name in SUMMARIES if name != RECIPE and output.place.exists(name)]
    there = ours[0] if ours else next(iter(format.present(output)), None)
    if output.url is not None and output.place.exists(RECIPE):
        return  # begun from another machine or state folder: `begin` compares the recipes
    if there is not None:
        raise PlanError("files of this name exist and are of another origin", where=f"{output.where}/{there}",
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
