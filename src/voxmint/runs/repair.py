"""Damaged samples of a data set made again, and nothing else; proven before anything is replaced."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from voxmint.datasets.format import Format, Output
from voxmint.datasets.ledger import REOPENED, Ledger, ledger_of
from voxmint.datasets.manifest import MANIFEST, RECIPE, Also, manifest_head, read_rejected
from voxmint.datasets.records import RECORDS, Records, read_records
from voxmint.errors import InputError, PlanError, RecipeError, VerificationError
from voxmint.files import file_entry, write_atomically
from voxmint.generators import remote
from voxmint.recipe import read_yaml
from voxmint.runs.execute import execute
from voxmint.runs.identity import differences, identity, note
from voxmint.runs.local.pool import Done, Failed, Pool
from voxmint.runs.local.shares import Shares
from voxmint.runs.lock import claim
from voxmint.runs.parts import Parts, reads_of
from voxmint.runs.progress import Progress
from voxmint.runs.reopen import reopen, vouched, vouched_records
from voxmint.runs.report import Report
from voxmint.runs.verify import verify
from voxmint.sample import JSON, Sampler
from voxmint.stores.place import Place


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
    format: Format,
    out: str | Path | Output,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    also: Also = tuple,
    kept: Collection[str] = (),
) -> Repair:
    """Make a data set again as far as it is damaged; it ends in the bytes that it had when it was made.

    Each sample is first made without being stored, and compared with what is recorded of it: if one differs, nothing is
    touched. Then the data set becomes an unfinished one: its manifest is gone, and files of many samples have their
    unfinished names. After a kill, `repair` or `execute` goes on. A data set whose run has not ended is repaired and
    then finished. Samples in files of their own whose checksum is lost are made again, and so is everything when
    nothing vouches for ``records.jsonl``, since nothing tells which record is wrong.

    Parameters
    ----------
    sampler : Sampler
        What made the data set, opened again from its definition.
    format : Format
        Its format.
    out : path, URL or Output
        Where it lies. Files that do not belong to it are left alone.
    workers, progress, also
        As for `voxmint.runs.execute.execute`.
    kept : collection of str
        Files, or folders of such, that belong to the data set and that ``also`` names but does not make.

    Raises
    ------
    VerificationError
        Some of those ``kept`` are damaged.
    InputError
        There is no data set in this directory, nothing tells how many samples it has, or an input is not what the
        samples were made from.
    PlanError
        It was made from another recipe than the sampler's, or a run is active in its directory.
    RunError, StorageError
        As for `execute`.
    """
    output = out if isinstance(out, Output) else Output.at(out)
    output, text = _settled(sampler, format, output)
    found = verify(output.url or output.directory, secrets=output.secrets, progress=progress)
    if found.ok and found.finished:
        return Repair(found, 0)
    lost = [str(problem) for problem in found.problems if problem.file.partition("/")[0] in kept]
    if lost:
        raise VerificationError("files that cannot be made again are damaged: nothing was changed", where=output.where,
                                got="".join(f"\n    {problem}" for problem in lost[:10]),
                                remedy="put them back from a copy, or repair the folder they are in; the command that "
                                       "made the data set writes them in another directory, too")  # fmt: skip
    sampler.check()
    with claim(output):
        _prove(sampler, output, found, workers)
        path = output.directory / RECIPE
        if not path.exists() or path.read_bytes() != text.encode():  # before the manifest goes, which tells what it was
            write_atomically(path, [text.encode()])
        if (output.directory / MANIFEST).exists() or not (output.state / REOPENED).exists():
            reopen(output, format)
        result = execute(sampler, format, output, count=output.count, workers=workers, progress=progress, also=also,
                         claimed=True)  # fmt: skip
    return Repair(found, result.made, result.rejected)


def _settled(sampler: Sampler, format: Format, output: Output) -> tuple[Output, str]:
    """Return how large the data set is, and the text that its recipe has, or had before it was damaged.

    What the recipe says counts if its checksum does; else that with which the sampler's own recipe has this checksum,
    and where there is no checksum either, what the manifest says.
    """
    home, path = Place(output.directory), output.directory / RECIPE
    head, entry = manifest_head(home), vouched(home).get(RECIPE)
    there = _readable(path)
    counts = [values["count"] for values in (head, there, {"count": len(sampler)}) if _is_count(values.get("count"))]
    if not head and not there:
        raise InputError("no data set in this directory, or none that can be repaired", where=output.where,
                         expected=f"{MANIFEST} or {RECIPE} to tell the number of samples",
                         remedy="restore one of them from a copy")  # fmt: skip
    whole = bool(there) and (entry is None or file_entry(output.directory, path) == entry)
    if whole and _is_count(there.get("count")) and (entry is not None or not head or head["count"] == there["count"]):
        settled = replace(output, count=there["count"], layout=sampler.layout())
        different = differences(there, identity(sampler, format, settled))
        if different:
            raise _another(output, different)
        return settled, path.read_text(encoding="utf-8")
    for count in counts:
        settled = replace(output, count=count, layout=sampler.layout())
        text = note(identity(sampler, format, settled))
        if entry is None or hashlib.sha256(text.encode()).hexdigest() == entry["sha256"]:
            return settled, text
    different = differences(there, identity(sampler, format, replace(output, count=counts[0], layout=sampler.layout())))
    raise _another(output, different or ["the recipe is damaged, and the one asked for has another checksum"])


def _readable(path: Path) -> JSON:
    try:
        return read_yaml(path)
    except RecipeError:
        return {}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _another(output: Output, different: list[str]) -> PlanError:
    return PlanError("the data set was made from another recipe", where=output.where,
                     expected="the recipe, count and format it was made from", got="; ".join(different[:8]),
                     remedy="build the sampler from recipe.yaml of the data set")  # fmt: skip


def _prove(sampler: Sampler, output: Output, found: Report, workers: int) -> None:
    """Make every sample that is to be replaced, store none, and compare it with what is recorded of it."""
    home = Place(output.directory)
    known = _recorded(output, home)
    ill = {problem.sample for problem in found.problems}
    kept = {record["index"] for record in vouched_records(output, home)} if home.exists(RECORDS) else known.keys()
    doubtful = [index for index in known if index in ill or index not in kept]
    parts = Parts(sampler.definition())
    for entry in _entries(output, home):
        if entry["sample"]["index"] in kept:  # its record is whole, whatever became of its arrays
            parts.add(reads_of(entry))
    if not doubtful:
        return
    told = {"sampler": remote(sampler), "format": None, "output": output.spec()}
    shares = Shares(sorted(doubtful), max(1, sampler.batch), max(1, min(workers, len(doubtful))))
    with Pool(told, max(1, min(workers, len(doubtful)))) as pool:
        for event in pool.run(shares):
            if isinstance(event, Failed):
                raise InputError(f"sample {event.index} cannot be made again, so nothing was changed", got=event.why,
                                 where=output.where, remedy="mend the cause, then repair again")  # fmt: skip
            if isinstance(event, Done):
                parts.add(reads_of(event.entry))
                _compare(event, known[event.index], sampler, output)


def _compare(event: Done, expected: set[str], sampler: Sampler, output: Output) -> None:
    made = event.entry.get("sample", {}).get("digest", "rejected")
    if made not in expected:
        inputs = {name: value.get("url") or value.get("address") for name, value in sampler.definition().items()
                  if isinstance(value, dict) and name != "recipe"}  # fmt: skip
        named = ", ".join(f"{name} {place}" for name, place in inputs.items() if place) or "no input"
        raise InputError("an input changed, or another version made this data set: nothing was changed",
                         where=output.where, expected=f"sample {event.index} with the digest {sorted(expected)[0]}",
                         got=f"{made}, from {named}",
                         remedy="put the input back as it was, or use the version that made the data set")  # fmt: skip


def _entries(output: Output, home: Place) -> Iterator[JSON]:
    """Yield what is recorded of the samples, as far as it can be read."""
    path = ledger_of(output)
    if path.exists():
        yield from Ledger(path).entries()
    elif home.exists(RECORDS):
        try:
            yield from ({"sample": record} for record in read_records(home))
        except VerificationError:
            return


def _recorded(output: Output, home: Place) -> dict[int, set[str]]:
    """Return the digests that records and their table have, by the index of each sample that they know."""
    digests: dict[int, set[str]] = {}
    for entry in _entries(output, home):
        digests.setdefault(entry["sample"]["index"], set()).add(entry["sample"]["digest"])
    if home.exists(RECORDS):
        with suppress(VerificationError):
            table = Records(home)
            for index in table.indices.tolist():
                digests.setdefault(index, set()).add(table.digest(index))
    with suppress(VerificationError):
        for row in read_rejected(home):
            digests.setdefault(row["index"], {"rejected"})
    return digests
