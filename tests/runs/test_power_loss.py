"""Power lost at any moment: what was called stored is there, and nothing under a final name is less than whole."""

from __future__ import annotations

import shutil

import pytest
from power import Diary, WatchedBoxes, WatchedToy, lay_out
from toy import contents

import voxmint.runs.commit as module
from voxmint.datasets.bank import BankFormat
from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.datasets.nifti import NiftiFormat
from voxmint.datasets.npy import NpyFormat
from voxmint.runs.execute import execute
from voxmint.runs.repair import repair
from voxmint.runs.verify import verify

FORMATS = {"hdf5": Hdf5Format(val_count=2), "nifti": NiftiFormat(), "npy": NpyFormat(), "bank": BankFormat()}


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """A folder whose changes are recorded, the record, and a sampler whose workers record too."""
    diary = Diary.new(tmp_path / "diary", tmp_path / "data")
    sampler = WatchedToy(length=6, side=4, rejected={"2": "no mask"}, diary=str(tmp_path / "diary"))
    monkeypatch.setattr(module, "GROUP_SECONDS", 0.0)
    return tmp_path / "data", diary, sampler


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("every", [20, pytest.param(1, marks=pytest.mark.stress)])
def test_power_lost_at_any_moment_of_a_run(watched, tmp_path, format, every):
    """All files under final names are whole, all recorded samples are there, and a rerun ends in the same bytes."""
    directory, diary, sampler = watched
    sampler = WatchedBoxes(6, str(diary.place)) if format.name == "bank" else sampler
    with pytest.MonkeyPatch.context() as patch:
        diary.watch(patch.setattr)
        assert execute(sampler, format, directory, workers=1, only=range(4)).made == (4 if format.name == "bank" else 3)
        diary.mark("part")
        assert execute(sampler, format, directory, workers=1).complete
        diary.mark("whole")
    whole, marks, least = contents(directory), [], 0
    for number, (mark, files) in enumerate(diary.states()):
        left = lay_out(files, tmp_path / "left")
        seen = contents(left)
        assert all(seen[name] == data for name, data in whole.items() if name in seen), f"{number}: not whole"
        if "recipe.yaml" in seen:
            report = verify(left)
            assert report.ok, f"{number}: {report}"
            if mark and mark not in marks:
                marks, least = [*marks, mark], report.samples + report.rejected
                assert least == {"part": 4, "whole": 6}[mark], f"{number}: called stored, and lost"
                assert mark == "part" or whole.items() <= seen.items(), f"{number}: called whole, and is not"
            assert report.samples + report.rejected >= least, f"{number}: lost later"
        if number % every == 1 % every:
            assert execute(sampler, format, left, workers=1).complete
            assert contents(left) == whole, f"after state {number}"
        shutil.rmtree(left)
    assert marks == ["part", "whole"]
    assert number > 20


def flip(path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def break_structure(directory) -> None:
    """Damage manifest and structure of an HDF5 data set, but no array."""
    flip(directory / "manifest.jsonl", 60)
    flip(directory / "train_data.hdf5", 60)


def break_a_sample(directory) -> None:
    """Cut one file of a tree."""
    path = sorted(directory.rglob("*.nii.gz"))[1]
    path.write_bytes(path.read_bytes()[:-3])


def break_recipe(directory) -> None:
    """Damage the version in the recipe."""
    flip(directory / "recipe.yaml", 9)


@pytest.mark.parametrize(
    ("format", "damage", "every"),
    [
        pytest.param(
            FORMATS["hdf5"],
            break_structure,
            1,
        ),
        (FORMATS["nifti"], break_a_sample, 10),
        pytest.param(FORMATS["nifti"], break_a_sample, 1, marks=pytest.mark.stress),
        pytest.param(
            FORMATS["npy"],
            break_recipe,
            1,
        ),
    ],
    ids=["structure", "sample", "samples", "recipe"],
)
def test_power_lost_at_any_moment_of_a_repair(watched, tmp_path, format, damage, every):
    """Whatever is left of a repair, the next one ends in the bytes of before, and no sample that was well is lost."""
    directory, diary, sampler = watched
    execute(sampler, format, directory, workers=1)
    whole = contents(directory)
    damage(directory)
    with pytest.MonkeyPatch.context() as patch:
        diary.watch(patch.setattr)
        diary.take_for_granted()
        done = repair(sampler, format, directory, workers=1)
    assert contents(directory) == whole
    states = [files for mark, files in diary.states() if mark]
    for number, files in enumerate(states):
        if number % every == 1 % every:
            left = lay_out(files, tmp_path / "left")
            again = repair(sampler, format, left, workers=1)
            assert again.made <= done.made, f"{number}: samples were lost"
            assert contents(left) == whole, f"after state {number}"
            shutil.rmtree(left)
    assert len(states) > 10
