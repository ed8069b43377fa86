"""Samples made together: the same bytes, the culprit of a death found, neighbours kept on one worker."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from toy import BackwardsToy, MuddledToy, ToySampler, contents

from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.errors import InputError, PlanError, RunError, StorageError
from voxmint.runs.execute import execute
from voxmint.runs.local.worker import describe

PLAIN = ToySampler(length=24, side=8)


class Heard:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def begin(self, total: int, done: int) -> None:
        pass

    def advance(self) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)

    def end(self) -> None:
        pass


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """What one worker makes of 24 samples, one after the other."""
    directory = tmp_path_factory.mktemp("plain")
    execute(PLAIN, Hdf5Format(), directory, workers=1)
    return contents(directory)


@pytest.mark.parametrize("fault", ["kill", "network", "end of stream"])
def test_passing_faults_of_a_batch_cost_nothing(tmp_path, plain, fault):
    """A worker that dies once amid a batch, or a stream that breaks off, changes no byte and is told."""
    (tmp_path / "once").mkdir()
    heard = Heard()
    sampler = replace(PLAIN, batch=6, faults={"9": fault}, once=str(tmp_path / "once"))
    assert execute(sampler, Hdf5Format(), tmp_path / "ill", workers=2, progress=heard).made == 24
    assert contents(tmp_path / "ill") == plain
    assert any("one by one" in note for note in heard.notes) == (fault != "network")


def test_sample_that_kills_its_worker_is_found_in_its_batch(tmp_path, plain):
    """Of a batch that a worker died of, only what was not reported is made again, and the culprit is named."""
    (tmp_path / "log").mkdir()
    heard = Heard()
    ill = replace(PLAIN, batch=8, faults={"9": "exit", "3": "bug"}, log=str(tmp_path / "log"))
    with pytest.raises(RunError, match="2 samples could not be made") as caught:
        execute(ill, Hdf5Format(), tmp_path / "ill", workers=1, progress=heard)
    assert "sample 3: ValueError: a bug of the sampler" in str(caught.value)
    assert "sample 9: its worker exited with code 3" in str(caught.value)
    (batch, *single) = [note for note in heard.notes if "worker" in note and "exited" in note]
    assert "while making 3 samples from 9 to 14" in batch  # of 8 to 15 the stream gave 10, 15, 8, 13 and 11 before 9
    assert [note.rpartition("; ")[0][-8:] for note in single[:3]] == ["sample 9"] * 3
    failures = (tmp_path / "ill/.voxmint/failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in failures] == [3, 9]
    assert execute(PLAIN, Hdf5Format(), tmp_path / "ill").made == 2
    assert contents(tmp_path / "ill") == plain


def test_neighbours_in_the_samplers_order_stay_with_one_worker(tmp_path, plain):
    """Batches follow the order that the sampler likes; each of two workers makes runs of neighbours."""
    (tmp_path / "log").mkdir()
    sampler = BackwardsToy(length=24, side=8, batch=6, log=str(tmp_path / "log"), seconds=0.03)
    execute(sampler, Hdf5Format(), tmp_path / "data", workers=2)
    assert contents(tmp_path / "data") == plain
    makers = [(tmp_path / "log" / str(index)).read_text() for index in range(24)][::-1]
    assert all(len(set(makers[start : start + 6])) == 1 for start in range(0, 24, 6))


def test_order_that_leaves_out_samples_is_refused(tmp_path):
    """An order without some index would never end the data set, so it is an error before any worker starts."""
    with pytest.raises(PlanError, match="every index once"):
        execute(MuddledToy(), Hdf5Format(), tmp_path)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ConnectionResetError("gone"), True),
        (MemoryError(), True),
        (StorageError("full"), False),
        (InputError("cut"), False),
        (ValueError("a bug"), False),
    ],
)
def test_what_may_pass_is_told_from_what_will_not(error, transient):
    """The network and a lack of memory may be gone a moment later; what we raise ourselves has been tried enough."""
    assert describe(error)["transient"] is transient
