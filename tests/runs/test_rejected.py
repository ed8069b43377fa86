"""Samples that are none: counted, listed with their reason, absent from the files."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import h5py
import pytest
from toy import ToySampler, contents

from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.errors import RunError
from voxmint.runs.execute import execute
from voxmint.runs.verify import verify
from voxmint.sample import Rejected

REASONS = {"0": "outside, of the layer", "4": "no\nmask", "5": 'no "mask"', "10": "no mask", "11": "outside"}
SOME = ToySampler(side=8, rejected=REASONS)
MADE = [index for index in range(12) if str(index) not in REASONS]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, request):
    """Data sets with rejected samples, made once a format."""
    made: dict[str, object] = {}

    def of(format):
        if format.name not in made:
            made[format.name] = tmp_path_factory.mktemp(format.name)
            result = execute(SOME, format, made[format.name], workers=1)
            assert (result.made, result.rejected, result.complete) == (7, 5, True)
        return made[format.name]

    return of


def test_made_and_rejected_are_told_apart(whole, format):
    """records.jsonl has the made samples, rejected.csv the others with key, reason and record; both count to all."""
    directory = whole(format)
    records = [json.loads(line) for line in (directory / "records.jsonl").read_text().splitlines()]
    assert [record["index"] for record in records] == MADE
    with (directory / "rejected.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["index"]) for row in rows] == [0, 4, 5, 10, 11]
    assert [row["key"] for row in rows] == [f"toy {row['index']}" for row in rows]
    assert [row["reason"] for row in rows] == [reason.replace("\n", " ") for reason in REASONS.values()]
    assert [json.loads(row["details"])["place"][0] for row in rows] == [0, 4, 5, 10, 11]
    report = verify(directory)
    assert report.ok
    assert (report.samples, report.rejected) == (7, 5)
    assert execute(SOME, format, directory).plan.rejected == 5


def test_hdf5_has_no_group_of_a_rejected_sample(whole):
    """Groups of made samples alone are in the files, named and filled as if the others had never been."""
    format = Hdf5Format(val_count=3)
    directory = whole(format)
    with h5py.File(directory / "train_data.hdf5") as train, h5py.File(directory / "val_data.hdf5") as val:
        assert [*train, *val] == [f"{index:06d}" for index in MADE]
        assert all((train[f"{index:06d}/seg"][()] == SOME[index].arrays["seg"]).all() for index in MADE[:-1])


def test_workers_batches_and_interruption_leave_no_trace(whole, format, tmp_path):
    """Two workers that make batches, in two runs, end in the bytes of one that makes one sample after the other."""
    together = replace(SOME, batch=3)
    first = execute(together, format, tmp_path, workers=2, only=range(5))
    assert (first.made, first.rejected, first.complete) == (3, 2, False)
    assert (verify(tmp_path).samples, verify(tmp_path).rejected) == (3, 2)
    second = execute(together, format, tmp_path, workers=2)
    assert (second.made, second.rejected, second.plan.rejected) == (4, 3, 2)
    assert contents(tmp_path) == contents(whole(format))


def test_list_of_rejected_is_there_when_there_might_have_been_some(tmp_path):
    """A sampler that can reject and did not has an empty list; one that cannot has none."""
    execute(ToySampler(length=2, side=4, rejects=True), Hdf5Format(), tmp_path / "can")
    execute(ToySampler(length=2, side=4), Hdf5Format(), tmp_path / "cannot")
    assert (tmp_path / "can/rejected.csv").read_text() == "index,key,reason,details\n"
    assert not (tmp_path / "cannot/rejected.csv").exists()
    assert verify(tmp_path / "can").ok


def test_all_rejected_is_an_error_with_the_reasons(tmp_path):
    """A data set without a sample is none: the most common reasons are told, and nothing gets its final name."""
    reasons = {str(index): "no mask" if index % 3 else "outside" for index in range(12)}
    sampler = ToySampler(side=4, rejected=reasons)
    for _ in range(2):
        with pytest.raises(RunError, match=r"all 12 samples were rejected[^$]*8 times: no mask\n *4 times: outside"):
            execute(sampler, Hdf5Format(), tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".partial"} == {"recipe.yaml", ".voxmint"}


def test_damaged_list_of_rejected_is_found(whole, format, tmp_path):
    """A list that is flipped, cut, gone or that names too few is reported, without blaming the samples."""
    shutil.copytree(whole(format), tmp_path / "d")
    path = tmp_path / "d/rejected.csv"
    data = path.read_bytes()
    for damaged in (data.replace(b"outside", b"outsidf"), data[:-2], data.replace(b"\n4,", b"\n3,"), b"", None):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        problems = verify(tmp_path / "d").problems
        assert any(problem.file == "rejected.csv" for problem in problems)
        path.write_bytes(data)
    assert verify(tmp_path / "d").ok


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("records.jsonl", lambda lines: lines[:-1]),
        ("records.jsonl", lambda lines: [*lines, lines[-1]]),
        ("rejected.csv", lambda lines: [lines[0], lines[2], lines[1], *lines[3:]]),
        ("rejected.csv", lambda lines: [*lines, lines[-1]]),
    ],
)
def test_damaged_manifest_hides_no_other_damage(whole, format, tmp_path, name, change):
    """When count and checksum are lost, records or rejections that are missing, doubled or swapped are still named."""
    directory = shutil.copytree(whole(format), tmp_path / "d")
    _, *lines = (directory / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    (directory / "manifest.jsonl").write_bytes(b"".join(line for line in lines if name.encode() not in line))
    (directory / name).write_bytes(b"".join(change((directory / name).read_bytes().splitlines(keepends=True))))
    assert {"manifest.jsonl", name} <= {problem.file for problem in verify(directory).problems}


def test_rejection_that_cannot_be_recorded_is_a_failure(tmp_path):
    """What is not a number in JSON is told as the fault of that sample."""
    with pytest.raises(RunError, match="sample 1: ValueError"):
        execute(NanToy(length=2, side=4), Hdf5Format(), tmp_path)


class NanToy(ToySampler):
    """Rejects sample 1 with a record that no JSON can hold."""

    def make(self, index):
        return Rejected(1, "", "no mask", {"distance": float("nan")}) if index == 1 else super().make(index)
