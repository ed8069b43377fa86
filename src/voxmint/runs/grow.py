"""A data set that gets more samples, or gives way to another one.

To grow, it becomes an unfinished one first, as for a repair: then its samples are read again, and those that are well
are kept. Every step can be repeated, and none loses what the next one needs.
"""

from __future__ import annotations

from dataclasses import replace

from voxmint.datasets.format import Output, Reserving, format_from_spec
from voxmint.datasets.ledger import NAME as LEDGER
from voxmint.datasets.ledger import REOPENED, read_ledger
from voxmint.datasets.manifest import FAILURES, MANIFEST, RECIPE, SUMMARIES, manifest_entries
from voxmint.datasets.stored import format_and_output
from voxmint.files import move, write_atomically
from voxmint.recipe import read_yaml
from voxmint.runs.identity import differences
from voxmint.runs.parts import Stock
from voxmint.runs.reopen import reopen
from voxmint.runs.shard import Shard, absorb, shards_of
from voxmint.sample import JSON, Sampler
from voxmint.stores.place import Place

GROWS, GIVES_WAY = "grows", "gives way"
"""What becomes of a data set that is there, and is not the one that is asked for."""
_MAY_GROW = ("count", "format.val_count")
LEFT = "left-over"
"""Folder of files that were found among those of a data set that gave way, and are not recorded as its own."""


def has_grown(there: JSON, asked: JSON, sampler: Sampler) -> bool:
    """Tell whether what is asked for is what is there, and more samples."""
    old = there.get("count")
    if not isinstance(old, int) or asked["count"] <= old:
        return False
    fields = {*_MAY_GROW, *sampler.grows}
    return all(line.partition(":")[0] in fields for line in differences(there, asked))


def as_grown(there: JSON, asked: JSON) -> JSON:
    """Return what a data set is that `has_grown`: its new files are written as those that are there."""
    grown = {name: value for name, value in asked["format"].items() if f"format.{name}" in _MAY_GROW}
    return {**asked, "format": {**format_from_spec(there["format"]).spec(), **grown}}


def grow(output: Output, stock: Stock) -> None:
    """Make a smaller data set an unfinished one of the size that is asked for; the lock of the directory is held.

    Raises
    ------
    PlanError
        Another run is making samples of it.
    """
    path, text = output.directory / RECIPE, output.note.encode()
    there = read_yaml(path)
    format, was = format_from_spec(there["format"]), replace(output, count=int(there["count"]))
    absorb(was, stock, Shard(0, output.count))
    if output.url is not None and output.place.exists(MANIFEST):
        output.place.delete(MANIFEST)
    reopen(was, format)
    if isinstance(format, Reserving):
        format.set_aside(was)
    if output.url is not None and output.place.read(RECIPE) == path.read_bytes():
        output.place.write(RECIPE, text)
    write_atomically(path, [text])


def clear(output: Output) -> None:
    """Remove the data set of a directory; the lock is held. The recipe goes last, so that this can be repeated.

    What lies among its files and is not recorded as one of them is moved to a folder of its own, `LEFT`.

    Raises
    ------
    PlanError
        Another run is making samples of it.
    """
    home = Place(output.directory)
    if not home.exists(RECIPE):
        return
    for shard in shards_of(output):
        with shard.hold(output):  # refused if another run makes it
            pass
        shard.remove(output)
    about = read_yaml(output.directory / RECIPE)
    format, was = format_and_output(output.place, about)
    owned = [str(entry["file"]) for entry in manifest_entries(home, [])]
    inputs = (str(value.get("address", "")) for value in about.values() if isinstance(value, dict))
    owned += [name for name in inputs if name and "/" not in name and (output.directory / name).is_file()]
    for name in (LEDGER, REOPENED):
        entries = (entry for entry, _ in read_ledger(was.state / name))
        owned += [str(file["file"]) for entry in entries if "sample" in entry for file in entry["files"]]
    if isinstance(format, Reserving):
        format.set_aside(was)
    for name in owned:
        if name != RECIPE:
            home.delete(name)
            output.place.delete(name)
    for name in list(format.present(was)) if output.url is None else ():
        move(was.directory / name, was.directory / LEFT / name)
    format.cleanup(was)
    for name in (LEDGER, REOPENED, FAILURES):
        (was.state / name).unlink(missing_ok=True)
    for name in (MANIFEST, *sorted({*SUMMARIES} - {RECIPE}), RECIPE):
        home.delete(name)
        output.place.delete(name)
