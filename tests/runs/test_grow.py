"""Data sets that get more samples, or give way to another one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from kill import killed_at
from power import Diary, WatchedToy, lay_out
from toy import ToySampler, contents

import voxmint.runs.commit as module
from stores import FORMATS
from voxmint.datasets.format import Output
from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.datasets.nifti import NiftiFormat
from voxmint.errors import InputError, PlanError
from voxmint.runs.execute import execute
from voxmint.runs.shard import Shard
from voxmint.runs.verify import verify

SMALL, LARGE = ToySampler(length=7, side=8), ToySampler(length=12, side=8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What twelve samples look like when they are made at once."""
    found = {}
    for name, format in FORMATS.items():
        folder = tmp_path_factory.mktemp(name)
        execute(LARGE, format, folder, workers=1)
        found[name] = contents(folder)
    return found


def less(format):
    """The format for fewer samples, with another part for validation."""
    return Hdf5Format(val_count=2) if format.name == "hdf5" else format


@pytest.mark.parametrize("part", [None, range(4)], ids=["finished", "unfinished"])
def test_a_data_set_gets_more_samples(tmp_path, whole, format, part):
    """Samples that are there are kept, not made again, and the end is that of a run that made all at once."""
    out, log = tmp_path / "out", tmp_path / "log"
    log.mkdir()
    execute(SMALL, less(format), out, workers=1, only=part)
    result = execute(replace(LARGE, log=str(log)), format, out, workers=2)
    kept = set(part or range(7))
    assert {int(path.name) for path in log.iterdir()} == set(range(12)) - kept
    assert (result.made, result.complete, result.plan.done) == (12 - len(kept), True, len(kept))
    assert contents(out) == whole[format.name]
    assert execute(LARGE, format, out, workers=1).made == 0


def test_a_shard_makes_a_data_set_grow(tmp_path, whole, format):
    """A run of a range makes the data set larger just so; the next range ends it."""
    execute(SMALL, less(format), tmp_path, workers=1)
    assert execute(LARGE, format, tmp_path, workers=1, only=range(7, 9)).made == 2
    assert execute(LARGE, format, tmp_path, workers=1, only=range(9, 12)).complete
    assert contents(tmp_path) == whole[format.name]


def test_a_dry_run_tells_and_changes_nothing(tmp_path, format):
    """The plan says how many are there already, and counts the room for the copy of what is there."""
    execute(SMALL, less(format), tmp_path, workers=1)
    before = contents(tmp_path)
    plan = execute(LARGE, format, tmp_path, dry_run=True).plan
    assert (plan.change, plan.done, plan.finished) == ("grows", 7, False)
    if format.name == "hdf5":
        assert plan.write_bytes >= 12 * plan.output.sample_bytes
    assert contents(tmp_path) == before


def test_nobody_makes_a_data_set_grow_while_another_run_is_at_it(tmp_path, format):
    """The run of a range holds its lock: a larger data set is refused until it ends."""
    execute(SMALL, less(format), tmp_path, workers=1, only=range(3))
    with Shard(3, 7).hold(Output.at(tmp_path)), pytest.raises(PlanError, match="another run is making"):
        execute(LARGE, format, tmp_path, workers=1)
    assert execute(SMALL, less(format), tmp_path, workers=1).complete


@pytest.mark.parametrize("other", [replace(SMALL, seed=1), replace(SMALL, side=9), replace(SMALL, length=5)])
def test_another_data_set_is_refused_with_the_choices(tmp_path, format, other):
    """Another seed, recipe or a smaller count changes nothing, and the message says what one can do."""
    execute(SMALL, less(format), tmp_path, workers=1)
    before = contents(tmp_path)
    with pytest.raises(PlanError) as refused:
        execute(other, less(format), tmp_path, workers=1)
    assert all(words in str(refused.value) for words in ("another directory", "a larger --count", "--overwrite"))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.stress)])
def test_killed_at_any_moment_while_it_grows(tmp_path, whole, format, every):
    """Whatever is left, the same command ends in the same bytes."""
    execute(SMALL, less(format), tmp_path / "small", workers=1)
    step, killed = 0, True
    while killed:
        cut = tmp_path / "cut"
        shutil.copytree(tmp_path / "small", cut)
        killed = killed_at(step, lambda cut=cut: execute(LARGE, format, cut, workers=1))
        assert execute(LARGE, format, cut, workers=1).complete
        assert contents(cut) == whole[format.name], f"killed at step {step}"
        shutil.rmtree(cut)
        step += every


@pytest.mark.parametrize("every", [16, pytest.param(1, marks=pytest.mark.stress)])
def test_no_stored_sample_is_lost_with_the_power(tmp_path, monkeypatch, format, every):
    """What was stored when the data set began to grow is found again, whenever the power is lost."""
    monkeypatch.setattr(module, "GROUP_SECONDS", 0.0)
    diary = Diary.new(tmp_path / "diary", tmp_path / "data")
    small = WatchedToy(length=5, side=4, diary=str(tmp_path / "diary"))
    large = replace(small, length=6)
    execute(small, less(format), tmp_path / "data", workers=1)
    with pytest.MonkeyPatch.context() as patch:
        diary.watch(patch.setattr)
        diary.take_for_granted()
        assert execute(large, format, tmp_path / "data", workers=1).made == 1
    end, states = contents(tmp_path / "data"), [files for mark, files in diary.states() if mark]
    for number, files in enumerate(states):
        if number % every == 8 % every:
            left = lay_out(files, tmp_path / "left")
            assert execute(large, format, left, workers=1).made <= 1, f"{number}: samples were lost"
            assert contents(left) == end, f"after state {number}"
            shutil.rmtree(left)
    assert len(states) > 10


@pytest.mark.parametrize("part", [None, range(4)], ids=["finished", "unfinished"])
def test_a_data_set_gives_way_when_that_is_asked_for(tmp_path, format, part):
    """With overwrite another one takes its place, and nothing of the old one is left; other people's files stay."""
    out = tmp_path / "out"
    execute(SMALL, less(format), out, workers=1, only=part)
    (out / "notes.txt").write_text("mine")
    other = replace(LARGE, seed=5)
    assert execute(other, format, out, workers=1, overwrite=True).made == 12
    execute(other, format, tmp_path / "new", workers=1)
    assert contents(out) == contents(tmp_path / "new") | {"notes.txt": b"mine"}
    assert verify(out).ok


def test_nothing_is_removed_for_what_cannot_be_made(tmp_path, format, monkeypatch):
    """Too little room for the new data set, or a damaged input of it, is told while the old one is whole."""
    execute(SMALL, less(format), tmp_path, workers=1)
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(PlanError, match="would not fit"):
            execute(replace(LARGE, seed=5), format, tmp_path, workers=1, overwrite=True)
    (changed := tmp_path.with_name("input")).write_text("another")
    with pytest.raises(InputError, match="the input changed"):
        execute(replace(LARGE, checked=str(changed)), format, tmp_path, workers=1, overwrite=True)
    assert contents(tmp_path) == before


def test_files_that_are_not_recorded_are_moved_and_never_removed(tmp_path):
    """A file among those of a tree that the data set does not know has a folder of its own, power lost or not."""
    out, diary = tmp_path / "out", Diary.new(tmp_path / "diary", tmp_path / "out")
    execute(SMALL, NiftiFormat(), out, workers=1)
    (out / "label_ensembles/mine.nii.gz").write_bytes(b"mine")
    with pytest.MonkeyPatch.context() as patch:
        diary.watch(patch.setattr)
        diary.take_for_granted()
        execute(LARGE, NiftiFormat(), out, workers=1, overwrite=True)
    assert (out / "left-over/label_ensembles/mine.nii.gz").read_bytes() == b"mine"
    assert all(b"mine" in files.values() for mark, files in diary.states() if mark)
    assert verify(out).ok


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.stress)])
def test_killed_at_any_moment_while_it_gives_way(tmp_path, whole, format, every):
    """Whatever is left, the same command ends in the new data set."""
    execute(replace(SMALL, seed=5), less(format), tmp_path / "small", workers=1)
    step, killed = 0, True
    while killed:
        cut: Path = tmp_path / "cut"
        shutil.copytree(tmp_path / "small", cut)
        killed = killed_at(step, lambda cut=cut: execute(LARGE, format, cut, workers=1, overwrite=True))
        assert execute(LARGE, format, cut, workers=1, overwrite=True).complete
        kept = {name: data for name, data in contents(cut).items() if not name.startswith("left-over/")}
        assert kept == whole[format.name], f"killed at step {step}"
        shutil.rmtree(cut)
        step += every
