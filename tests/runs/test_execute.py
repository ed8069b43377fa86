"""Whole runs: the same bytes however they are made, faults told, nothing mixed."""

from __future__ import annotations

import fcntl
import json
import signal
import time

import pytest
from toy import ToySampler, contents

from stores import FORMATS
from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.datasets.nifti import NiftiFormat
from voxmint.datasets.npy import NpyFormat
from voxmint.errors import PlanError, RunError, VerificationError
from voxmint.runs.execute import execute
from voxmint.runs.local.pool import ATTEMPTS
from voxmint.runs.verify import verify


class Heard:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.made = 0

    def begin(self, total: int, done: int) -> None:
        self.started_with = done

    def advance(self) -> None:
        self.made += 1

    def note(self, text: str) -> None:
        self.notes.append(text)

    def end(self) -> None:
        pass


def test_every_number_of_workers_makes_the_same_bytes(tmp_path, format, made):
    """One worker and three give byte-identical directories, without leftovers."""
    result = execute(ToySampler(), format, tmp_path, workers=3)
    assert (result.made, result.complete) == (12, True)
    found = contents(tmp_path)
    assert found == contents(made(format))
    assert not any(name.endswith((".partial", ".part", ".draft")) for name in found)


def test_finished_data_set_is_left_alone(copied, format):
    """The same command on a finished data set makes nothing and changes nothing."""
    directory = copied(format)
    files = [path for path in directory.rglob("*") if path.is_file() and path.name != "lock"]
    before = {path: path.stat().st_mtime_ns for path in files}
    result = execute(ToySampler(), format, directory)
    assert (result.made, result.complete) == (0, True)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_records_say_how_each_sample_was_made(made, format):
    """records.jsonl has every sample in order, with digest and record of the sampler itself, whatever the format."""
    sampler = ToySampler()
    records = [json.loads(line) for line in (made(format) / "records.jsonl").read_text().splitlines()]
    expected = [sampler[index] for index in range(12)]
    assert [record["index"] for record in records] == list(range(12))
    assert [record["digest"] for record in records] == [sample.digest() for sample in expected]
    assert [record["record"] for record in records] == [sample.record for sample in expected]
    assert [record["key"] for record in records] == [sample.key for sample in expected]


def test_dry_run_writes_nothing(tmp_path, format):
    """A dry run plans and leaves not even the directory behind."""
    result = execute(ToySampler(), format, tmp_path / "new", dry_run=True)
    assert result.plan.output.count == 12
    assert not (tmp_path / "new").exists()


def test_parts_of_the_indices_can_be_made_one_after_the_other(tmp_path, format, made):
    """Two runs over halves of the indices end in the bytes of one run over all."""
    assert not execute(ToySampler(), format, tmp_path, only=range(6, 12), workers=1).complete
    assert not (tmp_path / "records.jsonl").exists()
    assert execute(ToySampler(), format, tmp_path, only=range(6), workers=1).complete
    assert contents(tmp_path) == contents(made(format))


def test_space_is_asked_for_what_is_made_now(tmp_path):
    """A part of the indices needs its share of the space in a tree of files, and all of it in one file."""
    needed = {
        (format.name, part): execute(ToySampler(), format, tmp_path / "new", only=part, dry_run=True).plan.write_bytes
        for format in (NiftiFormat(), Hdf5Format())
        for part in (None, range(3), range(9, 99))
    }
    assert needed["nifti", range(3)] == needed["nifti", range(9, 99)] == needed["nifti", None] // 4 > 0
    assert needed["hdf5", range(3)] == needed["hdf5", None] > 0


def test_another_recipe_is_refused_by_field(copied, format):
    """A different seed, count or format in the same directory is refused, and the message names the field."""
    directory = copied(format)
    before = contents(directory)
    with pytest.raises(PlanError, match=r"recipe\.seed: 0 there, 2 asked"):
        execute(ToySampler(seed=2), format, directory)
    with pytest.raises(PlanError, match="count: 12 there, 5 asked"):
        execute(ToySampler(), format, directory, count=5)
    with pytest.raises(PlanError, match=r"format\."):
        execute(ToySampler(), Hdf5Format(val_count=1), directory)
    assert contents(directory) == before


def test_files_of_other_origin_are_never_overwritten(tmp_path):
    """A file of our name that we did not write is refused; other files stay."""
    (tmp_path / "notes.txt").write_text("mine")
    execute(ToySampler(length=2), Hdf5Format(), tmp_path, workers=1)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    for name in ("train_data.hdf5", "rejected.csv"):
        other = tmp_path / f"other {name}"
        other.mkdir()
        (other / name).write_text("precious")
        with pytest.raises(PlanError, match="other origin"):
            execute(ToySampler(), Hdf5Format(), other)
        assert contents(other) == {name: b"precious"}


def test_missing_file_of_a_finished_data_set_is_told(copied, format):
    """A rerun does not call a data set finished when one of its files is gone."""
    directory = copied(format)
    victim = next(path for path in sorted(directory.rglob("*")) if path.suffix in (".hdf5", ".gz"))
    victim.unlink()
    with pytest.raises(VerificationError, match=victim.name):
        execute(ToySampler(), format, directory)


def test_cut_file_of_a_finished_data_set_is_told(copied, format):
    """A rerun does not call a data set finished when a file is a byte shorter or longer, nor does it touch the file."""
    directory = copied(format)
    for victim in (path for path in sorted(directory.rglob("*")) if path.suffix in (".hdf5", ".gz")):
        data = victim.read_bytes()
        for damaged in (data[:-1], data + b"\0"):
            victim.write_bytes(damaged)
            with pytest.raises(VerificationError, match=victim.name):
                execute(ToySampler(), format, directory)
            assert victim.read_bytes() == damaged
        victim.write_bytes(data)
    assert execute(ToySampler(), format, directory).complete


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1])])
@pytest.mark.parametrize("tree", [NiftiFormat(), NpyFormat()], ids=["nifti", "npy"])
def test_lost_or_cut_file_of_an_unfinished_tree_is_made_again(tmp_path, made, tree, damage):
    """A file that is gone, or lost its last byte, between two runs costs its sample, not the data set."""
    execute(ToySampler(), tree, tmp_path, only=range(8), workers=1)
    victims = sorted(path for path in tmp_path.rglob("*") if path.suffix in (".npy", ".gz"))
    damage(victims[3])
    plan = execute(ToySampler(), tree, tmp_path, dry_run=True).plan
    assert plan.done == 7
    assert execute(ToySampler(), tree, tmp_path, workers=1).made == 5
    assert contents(tmp_path) == contents(made(tree))


@pytest.mark.parametrize(
    "fault", ["segfault", "network", *(pytest.param(fault, marks=pytest.mark.stress) for fault in ("exit", "kill"))]
)
def test_passing_faults_cost_nothing(tmp_path, made, fault):
    """A worker that dies once, or a reset connection, changes no byte; deaths are told with the index held."""
    (tmp_path / "once").mkdir()
    heard, format = Heard(), FORMATS["hdf5"]
    sampler = ToySampler(faults={"4": fault}, once=str(tmp_path / "once"))
    assert execute(sampler, format, tmp_path / "ill", workers=1, progress=heard).made == 12
    assert contents(tmp_path / "ill") == contents(made(format))
    assert any("sample 4" in note for note in heard.notes) == (fault != "network")


def test_lasting_faults_are_quarantined_and_the_others_go_on(tmp_path, made):
    """Samples that keep failing are listed with why; the others are stored, and a mended rerun makes only these."""
    ill, format, heard = tmp_path / "ill", FORMATS["hdf5"], Heard()
    with pytest.raises(RunError, match="sample 2: InputError") as caught:
        execute(ToySampler(faults={"2": "input", "7": "bug", "9": "exit"}), format, ill, workers=2, progress=heard)
    assert heard.made == 9
    assert len([note for note in heard.notes if "while making sample 9" in note]) == ATTEMPTS
    assert "sample 7: ValueError" in str(caught.value)
    assert "sample 9: its worker exited with code 3" in str(caught.value)
    assert not (ill / "train_data.hdf5").exists()
    failures = (ill / ".voxmint/failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in failures] == [2, 7, 9]
    assert verify(ill).ok
    assert execute(ToySampler(), format, ill, workers=1).made == 3
    assert [path.name for path in (ill / ".voxmint").iterdir()] == ["lock"]
    assert contents(ill) == contents(made(format))


def test_hopeless_run_stops_early(tmp_path):
    """When every sample fails, the run does not try them all."""
    sampler = ToySampler(length=500, faults={str(index): "bug" for index in range(500)})
    with pytest.raises(RunError, match="10 samples"):
        execute(sampler, Hdf5Format(), tmp_path, workers=1)


def test_run_of_which_some_samples_can_be_made_goes_on_to_the_end(tmp_path):
    """However many fail, the others are made once one has been."""
    ill = {str(index): "bug" for index in range(1, 14)}
    with pytest.raises(RunError, match=r"13 samples could not be made.*3 samples are stored"):
        execute(ToySampler(length=16, side=4, faults=ill), Hdf5Format(), tmp_path, workers=1)


def test_sampler_that_cannot_be_built_is_told_at_once(tmp_path):
    """An error before the first sample ends the run with its own message."""

    class Hidden(ToySampler):
        """Cannot be found by its name."""

    with pytest.raises(RunError, match="<locals>"):
        execute(Hidden(), Hdf5Format(), tmp_path)


def test_prints_of_a_sampler_do_no_harm(tmp_path):
    """What a sampler prints does not mix with the workers' answers."""
    assert execute(ToySampler(length=3, faults={"1": "print"}), Hdf5Format(), tmp_path, workers=1).complete


def test_second_run_is_refused_while_the_first_is_active(tmp_path, made, driver):
    """Two runs on one directory: the second refuses and names the first's process, which ends well."""
    sampler = ToySampler(seconds=0.1)
    format = FORMATS["hdf5"]
    first = driver.start(sampler, format, tmp_path / "d")
    wait_for(lambda: (tmp_path / "d" / "recipe.yaml").exists())
    with pytest.raises(PlanError, match=f"another run is active[^$]*process {first.pid} on"):
        execute(sampler, format, tmp_path / "d")
    assert first.wait(timeout=60) == 0
    assert contents(tmp_path / "d") == contents(made(format))


def test_run_that_ended_just_before_the_lock_was_taken_is_not_repeated(tmp_path, monkeypatch, format):
    """What another run finished between this one's look at the directory and its lock is left as it is."""
    take, other = fcntl.flock, []

    def wait_for_the_other(*arguments):
        if not other:
            other.append(None)  # its own lock is taken at once
            other.append(execute(ToySampler(side=4), format, tmp_path, workers=1).made)
            other.append({path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.is_file()})
        return take(*arguments)

    monkeypatch.setattr(fcntl, "flock", wait_for_the_other)
    result = execute(ToySampler(side=4), format, tmp_path, workers=1)
    assert other[1] == 12, "the other run did not come in between"
    assert (result.made, result.complete, result.plan.finished) == (0, True, True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.is_file()} == other[2]


def test_interrupt_keeps_what_is_stored_and_says_how_to_go_on(tmp_path, made, driver):
    """Ctrl-C ends a run within seconds; what was stored is recorded, and the rerun is byte-identical."""
    format = FORMATS["hdf5"]
    (tmp_path / "once").mkdir()
    sampler = ToySampler(seconds=0.2, faults={"5": "print"}, once=str(tmp_path / "once"))
    process = driver.start(sampler, format, tmp_path / "cut", workers=1, group_seconds=100)
    wait_for((tmp_path / "once" / "5").exists)  # sample 5 is being made, so earlier ones are stored
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "the same command goes on" in said
    heard = Heard()
    execute(ToySampler(), format, tmp_path / "cut", workers=1, progress=heard)
    assert heard.started_with > 0
    assert contents(tmp_path / "cut") == contents(made(format))


def wait_for(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
