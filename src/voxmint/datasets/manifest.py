"""What makes a data set finished: its records, then `manifest.jsonl`, which knows every file's checksum.

`recipe.yaml` is there from the start, so that another recipe in the same directory is refused. `rejected.csv` lists the
samples that were rejected; it is missing where no sampler can reject. The manifest is written last; a directory that
has one is finished.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from voxmint.datasets.format import Format, Output, Reserving
from voxmint.datasets.ledger import NAME as LEDGER
from voxmint.datasets.ledger import REOPENED, Ledger
from voxmint.datasets.lines import compact, seal, unseal
from voxmint.datasets.records import INDEX, RECORDS, write_records
from voxmint.errors import VerificationError
from voxmint.files import file_entry, write_atomically
from voxmint.sample import JSON
from voxmint.stores.place import Place

RECIPE, MANIFEST = "recipe.yaml", "manifest.jsonl"
REJECTED = "rejected.csv"
FAILURES = "failures.jsonl"
SUMMARIES = (RECIPE, RECORDS, INDEX, REJECTED)
"""Files that a run writes beside the samples, whatever makes them."""
_COLUMNS = ("index", "key", "reason", "details")
_VERSIONS = (1, 2)

Also = Callable[[], Iterable[str]]
"""Draws and writes what belongs to a data set beside its samples; returns the names of these files."""


def finish(output: Output, format: Format, ledger: Ledger, *, list_rejected: bool = False, also: Also = tuple) -> None:
    """Let a complete run's data set appear, and remove what only the unfinished run needed; safe to repeat.

    `rejected.csv` is written if anything was rejected, or with ``list_rejected`` anyway; ``also`` is called when all
    samples can be read.
    """
    directory = output.directory
    if ledger.rejected and isinstance(format, Reserving):
        format.give_up(output, ledger.rejected)
    outputs = format.commit(output)
    write_records(directory, ledger.records(), len(ledger) - len(ledger.rejected))
    names, head = [RECIPE, RECORDS, INDEX], {"voxmint manifest": _VERSIONS[-1], "count": output.count}
    if list_rejected or ledger.rejected:
        write_atomically(directory / REJECTED, rejected_lines(ledger.rejections()))
        names.append(REJECTED)
        head["rejected"] = len(ledger.rejected)
    names += [name for name in also() if name not in names]
    arrays = {name: {"shape": list(shape), "dtype": dtype} for name, (shape, dtype) in output.layout.items()}
    ours = [file_entry(directory, directory / name) for name in names]

    def entries() -> Iterator[JSON]:
        yield {**head, "arrays": arrays, "format": format.spec()}
        yield from ours
        yield from outputs
        for made in ledger.entries():
            yield from ({**file, "sample": made["sample"]["index"]} for file in made["files"])

    write_atomically(directory / MANIFEST, _with_end(map(seal, entries())))
    tidy(output, format)


def tidy(output: Output, format: Format) -> None:
    """Bring the summaries of a finished data set to its bucket; remove what only the unfinished run needed."""
    if output.url is not None:
        _upload(output)
    format.cleanup(output)
    for name in (LEDGER, REOPENED, FAILURES):
        (output.state / name).unlink(missing_ok=True)


def tidy_whole(output: Output, format: Format) -> None:
    """Do as `tidy` if no file of the data set is missing or cut, which sizes tell."""
    wrong = wrong_sizes(output)
    if wrong:
        raise VerificationError("files of this finished data set are missing or cut", where=output.where,
                                got="; ".join(wrong[:8]), remedy="run `voxmint verify` for the full list")  # fmt: skip
    tidy(output, format)


def _upload(output: Output) -> None:
    place, home = output.place, Place(output.directory)
    names = [str(entry["file"]) for entry in manifest_entries(home) if "sample" not in entry]
    for name in [*names, MANIFEST]:  # the manifest last: where there is one, all is there
        data = home.read(name)
        if place.size(name) != len(data) or place.read(name) != data:
            place.write(name, data)


def manifest_head(place: Place) -> JSON:
    """Return a manifest's first line; empty if it is damaged or there is none."""
    if not place.exists(MANIFEST):
        return {}
    head = unseal(next(iter(place.lines(MANIFEST)), b"")) or {}
    return head if head.get("voxmint manifest") in _VERSIONS else {}


def manifest_entries(place: Place, faults: list[str] | None = None) -> Iterator[JSON]:
    """Yield the entries of a manifest, one by one.

    Parameters
    ----------
    place : Place
        The data set; one without a manifest has no entries.
    faults : list of str, optional
        What is wrong with the manifest goes in here, as it is met, and what can be read is yielded.

    Raises
    ------
    VerificationError
        A line is cut, changed or missing, and there is no list for faults.
    """
    found: list[str] = [] if faults is None else faults
    sha, head, number, ended = hashlib.sha256(), JSON(), 0, False
    for number, line in enumerate(place.lines(MANIFEST) if place.exists(MANIFEST) else (), 1):
        entry = unseal(line)
        if entry is None:
            found.append(f"line {number} is cut or changed")
        elif number == 1 and entry.get("voxmint manifest") in _VERSIONS:
            head = entry
        elif "end" in entry:
            ended = True
            if entry != {"end": number - 1, "sha256": sha.hexdigest()}:
                found.append("lines are missing, changed or out of order")
        elif "file" in entry and not ended:
            yield entry
        else:
            found.append(f"line {number} is none of a manifest")
        sha.update(line)
        if faults is None and found:
            raise VerificationError(found[0], where=f"{place.url}/{MANIFEST}")
    if number and not head:
        found.append("line 1 is cut or changed")
    if head.get("voxmint manifest") == _VERSIONS[-1] and not ended:
        found.append("the end is missing")
    if faults is None and found:
        raise VerificationError(found[0], where=f"{place.url}/{MANIFEST}")


def _with_end(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines and then one that vouches for all of them: each has a checksum, but not that it is there."""
    sha, number = hashlib.sha256(), 0
    for line in lines:
        sha.update(line)
        number += 1
        yield line
    yield seal({"end": number, "sha256": sha.hexdigest()})


def read_rejected(place: Place) -> list[JSON]:
    """Return index, key, reason and record of all rejected samples; none if the data set has no list of them.

    Raises
    ------
    VerificationError
        The list is damaged.
    """
    if not place.exists(REJECTED):
        return []
    try:
        text = io.StringIO(place.read(REJECTED).decode("utf-8"), newline="")
        columns, *rows = csv.reader(text, strict=True)
        if tuple(columns) != _COLUMNS:
            raise ValueError(f"the columns are {', '.join(columns)}")
        return [
            {"index": int(index), "key": key, "reason": reason, "record": json.loads(record)}
            for index, key, reason, record in rows
        ]
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise VerificationError(
            f"the list of rejected samples is unreadable: {error}", where=f"{place.url}/{REJECTED}"
        ) from error


def wrong_sizes(output: Output) -> list[str]:
    """Return which files of a finished data set are missing or not of their recorded size, without reading them."""
    home, wrong = Place(output.directory), []
    there = {} if output.url is None else output.place.sizes()
    for entry in manifest_entries(home):
        # summaries lie in the folder of records, from which they are brought to a bucket
        is_here = output.url is None or "sample" not in entry
        size = home.size(entry["file"]) if is_here else there.get(entry["file"])
        if size != entry["bytes"]:
            got = "missing" if size is None else f"{size:,} bytes instead of {entry['bytes']:,}"
            wrong.append(f"{entry['file']}: {got}")
    return wrong


def rejected_lines(rejections: Iterable[JSON]) -> Iterator[bytes]:
    """Yield the lines of `REJECTED`, from index, key, reason and record of each."""
    rows = ((row["index"], row["key"], row["reason"], compact(row["record"])) for row in rejections)
    for row in chain([_COLUMNS], rows):
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerow(row)
        yield text.getvalue().encode()
