"""What makes a data set finished: `records.jsonl`, then `manifest.jsonl`, which knows every file's checksum.

`recipe.yaml` is there from the start, so that another recipe in the same directory is refused. `rejected.csv` lists the
samples that were rejected; it is missing where no sampler can reject. The manifest is written last; a directory that
has one is finished.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from voxmint.datasets.format import Format, Reserving, Target
from voxmint.datasets.ledger import NAME as LEDGER
from voxmint.datasets.ledger import Ledger
from voxmint.datasets.lines import compact, seal, unseal
from voxmint.errors import VerificationError
from voxmint.files import file_entry, write_atomically
from voxmint.sample import JSON

RECIPE, RECORDS, MANIFEST = "recipe.yaml", "records.jsonl", "manifest.jsonl"
REJECTED = "rejected.csv"
FAILURES = "failures.jsonl"
REOPENED = "reopened.jsonl"
"""The ledger of a data set that is being repaired, none of its samples checked yet."""
_COLUMNS = ("index", "key", "reason", "details")


def finish(target: Target, store: Format, ledger: Ledger, *, list_rejected: bool = False) -> None:
    """Let a complete run's data set appear, and remove what only the unfinished run needed; safe to repeat.

    `rejected.csv` is written if anything was rejected, or with ``list_rejected`` anyway.
    """
    if ledger.rejected and isinstance(store, Reserving):
        store.give_up(target, ledger.rejected)
    outputs = store.commit(target)
    records = (compact(entry["sample"]).encode() + b"\n" for entry in ledger.entries())
    write_atomically(target.directory / RECORDS, records)
    names, head = [RECIPE, RECORDS], {"voxmint manifest": 1, "count": target.count}
    if list_rejected or ledger.rejected:
        write_atomically(target.directory / REJECTED, _csv_lines(ledger.rejections()))
        names.append(REJECTED)
        head["rejected"] = len(ledger.rejected)
    arrays = {name: {"shape": list(shape), "dtype": dtype} for name, (shape, dtype) in target.layout.items()}
    ours = [file_entry(target.directory, target.directory / name) for name in names]

    def lines() -> Iterator[bytes]:
        yield seal({**head, "arrays": arrays, "format": store.spec()})
        for entry in [*ours, *outputs]:
            yield seal(entry)
        for made in ledger.entries():
            yield from (seal({**file, "sample": made["sample"]["index"]}) for file in made["files"])

    write_atomically(target.directory / MANIFEST, lines())
    tidy(target, store)


def tidy(target: Target, store: Format) -> None:
    """Remove what only the unfinished run needed."""
    store.cleanup(target)
    for name in (LEDGER, REOPENED, FAILURES):
        (target.state / name).unlink(missing_ok=True)


def read_manifest(directory: Path) -> tuple[JSON, list[JSON]]:
    """Return the manifest's head and its entries.

    Raises
    ------
    VerificationError
        A line is cut or changed, or the head is missing.
    """
    path = directory / MANIFEST
    entries = []
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            entry = unseal(line)
            if entry is None:
                raise VerificationError(f"line {number} is cut or changed", where=path)
            entries.append(entry)
    if not entries or entries[0].get("voxmint manifest") != 1:
        raise VerificationError("not a manifest", where=path)
    return entries[0], entries[1:]


def read_rejected(directory: Path) -> list[JSON]:
    """Return index, key, reason and record of all rejected samples; none if the data set has no list of them.

    Raises
    ------
    VerificationError
        The list is damaged.
    """
    path = directory / REJECTED
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            columns, *rows = csv.reader(stream, strict=True)
        if tuple(columns) != _COLUMNS:
            raise ValueError(f"the columns are {', '.join(columns)}")
        return [
            {"index": int(index), "key": key, "reason": reason, "record": json.loads(record)}
            for index, key, reason, record in rows
        ]
    except (OSError, ValueError, csv.Error) as error:
        raise VerificationError(f"the list of rejected samples is unreadable: {error}", where=path) from error


def _csv_lines(rejections: Iterable[JSON]) -> Iterator[bytes]:
    rows = ((row["index"], row["key"], row["reason"], compact(row["record"])) for row in rejections)
    for row in chain([_COLUMNS], rows):
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerow(row)
        yield text.getvalue().encode()


def wrong_sizes(directory: Path) -> list[str]:
    """Return which files of a finished data set are missing or not of their recorded size, without reading them."""
    wrong = []
    for entry in read_manifest(directory)[1]:
        path = directory / entry["file"]
        size = path.stat().st_size if path.is_file() else None
        if size != entry["bytes"]:
            got = "missing" if size is None else f"{size:,} bytes instead of {entry['bytes']:,}"
            wrong.append(f"{entry['file']}: {got}")
    return wrong
