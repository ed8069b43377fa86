"""What belongs to a data set of instances beside its samples: how rows were drawn, and pictures."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import chain
from pathlib import Path

from voxmint.datasets.format import Output
from voxmint.datasets.manifest import Also, read_rejected
from voxmint.datasets.records import read_records
from voxmint.datasets.stored import StoredDataset
from voxmint.errors import LayerError, RejectedSample
from voxmint.files import write_atomically
from voxmint.instances.sampler import InstanceSampler
from voxmint.instances.table.rows import ROWS
from voxmint.make.stored import MONTAGE, draw
from voxmint.runs.parts import Parts
from voxmint.sample import JSON
from voxmint.stores.place import Place

REPORT, REJECTED_PICTURE = "report.json", "rejected.png"
_GALLERY, _MOST_REJECTED = 24, 12


def told_rows(table: JSON, left_out: JSON | None = None) -> str:
    """Say how many rows of a table are used, and why others are not: none is left out in silence."""
    reasons = table["dropped"] | (left_out or {})
    why = "".join(f", {number:,} {reason}" for reason, number in reasons.items() if number)
    return f"rows      {table['rows']:,} in the table, {table['drawn']:,} drawn{why}"


def reports_of_instances(output: Output, sampler: InstanceSampler, report: JSON | None) -> Also:
    """Return what writes how rows were drawn, and draws the samples and what lies around rejected rows."""

    def also() -> list[str]:
        names = [ROWS, MONTAGE]
        if report is not None:
            write_atomically(output.directory / REPORT, [json.dumps(report, indent=1).encode() + b"\n"])
        if (output.directory / REPORT).exists():
            names.append(REPORT)
        dataset = StoredDataset.of(output)
        draw(dataset, output.directory / MONTAGE, _GALLERY)
        if _draw_rejected(output.directory, sampler, _parts_read(output.directory, sampler)):
            names.append(REJECTED_PICTURE)
        return names

    return also


def _parts_read(folder: Path, sampler: InstanceSampler) -> Parts:
    """Return what the samples and rejected rows of a data set were read from."""
    parts, home = Parts(sampler.definition()), Place(folder)
    for about in chain(read_rejected(home), read_records(home)):
        parts.add(about["record"].get("reads", {}))
    return parts


def _draw_rejected(folder: Path, sampler: InstanceSampler, parts: Parts) -> bool:
    """Draw what lies around rejected rows, from the layers; return whether there is anything to be seen.

    Raises
    ------
    InputError
        A chunk has another content by now than the samples were made from.
    """
    from voxmint.inspect.gallery import rejected_gallery
    from voxmint.inspect.montage import write_montage

    first: dict[int, tuple[int, str]] = {}
    for row in read_rejected(Place(folder)):
        if len(first) < _MOST_REJECTED:
            first.setdefault(row["index"] // sampler.recipe.scenarios, (row["index"], row["reason"]))
    around = []
    for index, reason in first.values():
        with suppress(RejectedSample, LayerError):  # its chunks cannot be read, which the reason says
            sample = sampler.look(index)
            parts.add(sample.reads)
            around.append((sample, reason))
    if around:
        write_montage(folder / REJECTED_PICTURE, rejected_gallery(around, title=f"{len(around)} rejected rows"))
    return bool(around)
