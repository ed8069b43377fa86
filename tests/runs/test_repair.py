"""Damage of every kind, repaired to the bytes that were there before."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace

import h5py
import pytest
from kill import killed_at, stop_before_the_end
from toy import ToySampler, contents

from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.errors import InputError, PlanError
from voxmint.runs.execute import execute
from voxmint.runs.repair import repair
from voxmint.runs.verify import verify

SAMPLER = ToySampler(side=8, rejected={"2": "no mask", "10": "outside"})
SUMMARIES = ("recipe.yaml", "records.jsonl", "rejected.csv", "manifest.jsonl")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A data set of each format, made once."""
    made: dict[str, object] = {}

    def of(format):
        if format.name not in made:
            made[format.name] = tmp_path_factory.mktemp(format.name)
            execute(SAMPLER, format, made[format.name], workers=1)
        return made[format.name]

    return of


@pytest.fixture
def copy(whole, format, tmp_path):
    return shutil.copytree(whole(format), tmp_path / "copy")


def flip(path, position: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(position)
        byte = stream.read(1)[0]
        stream.seek(position)
        stream.write(bytes([byte ^ 4]))


def damage_samples(format, directory) -> None:
    """Flip a byte of sample 1, cut sample 6, and delete or blank sample 11."""
    keys = {index: SAMPLER[index].key for index in (1, 6, 11)}
    if format.name == "hdf5":
        with h5py.File(directory / "train_data.hdf5") as file:
            places = [file[f"{index:06d}/img"].id.get_offset() for index in (1, 6)]
        flip(directory / "train_data.hdf5", places[0] + 100)
        flip(directory / "train_data.hdf5", places[1] + 500)
        (directory / "val_data.hdf5").unlink()
        return
    paths = [directory / f"synthesized_views/view1/view1_{keys[1]}.nii.gz"]
    paths += [directory / f"label_ensembles/{keys[index]}.nii.gz" for index in (6, 11)]
    flip(paths[0], 60)
    paths[1].write_bytes(paths[1].read_bytes()[:-5])
    paths[2].unlink()


def test_damaged_samples_alone_are_made_again(whole, copy, format):
    """Flipped, cut and deleted samples are made again, no others; all bytes are as before."""
    damage_samples(format, copy)
    done = repair(SAMPLER, format, copy, workers=1)
    assert done.made == (4 if format.name == "hdf5" else 3)  # the lost HDF5 file held samples 9 and 11
    assert done.made == len({problem.sample for problem in done.found.problems} - {None})
    assert contents(copy) == contents(whole(format))
    assert verify(copy).ok
    assert repair(SAMPLER, format, copy).made == 0


def test_a_run_that_was_killed_before_it_tidied_up_is_repaired(whole, format, tmp_path):
    """The manifest is there, and so is what only the unfinished run needed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("voxmint.datasets.manifest.tidy", lambda *_: None)
        execute(SAMPLER, format, tmp_path, workers=1)
    damage_samples(format, tmp_path)
    assert (tmp_path / ".voxmint/ledger.jsonl").exists()
    assert repair(SAMPLER, format, tmp_path, workers=1).made
    assert contents(tmp_path) == contents(whole(format))


def test_damage_beside_the_samples_costs_no_sample(whole, tmp_path):
    """Structure, recipe and manifest are made again around the samples: nothing but them is written."""
    format = Hdf5Format(val_count=3)
    expected = contents(whole(format))
    for number, damage in enumerate(
        [
            lambda d: (d / "recipe.yaml").unlink(),
            lambda d: flip(d / "recipe.yaml", 9),
            lambda d: (d / "manifest.jsonl").unlink(),
            lambda d: (d / "manifest.jsonl").write_bytes(expected["manifest.jsonl"][:-9]),
            lambda d: flip(d / "manifest.jsonl", 40),
            lambda d: [flip(d / "train_data.hdf5", place) for place in range(0, 800, 3)],
            lambda d: (d / "val_data.hdf5").write_bytes(expected["val_data.hdf5"] + b"more"),
        ]
    ):
        cut = shutil.copytree(whole(format), tmp_path / str(number))
        damage(cut)
        done = repair(SAMPLER, format, cut)
        assert not done.found.ok or not done.found.finished
        assert done.made == 0, number
        assert done.rejected in (0, 2), number  # nothing vouches for the list of them when its line is gone
        assert contents(cut) == expected, number


def test_damaged_count_costs_no_sample(whole, copy, format):
    """When the manifest's first line is damaged too, a recipe that says fewer samples is mended or refused."""
    flip(copy / "manifest.jsonl", 40)
    recipe = copy / "recipe.yaml"
    recipe.write_bytes(recipe.read_bytes().replace(b"count: 12", b"count: 10"))
    before = contents(copy)
    try:
        repair(SAMPLER, format, copy, workers=1)
    except (InputError, PlanError):
        assert contents(copy) == before
    else:
        assert contents(copy) == contents(whole(format))


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_summary_is_restored(whole, copy, format, name):
    """Whatever happens to recipe, records, list of rejected or manifest, the bytes come back."""
    flip(copy / name, (copy / name).stat().st_size // 2)
    repair(SAMPLER, format, copy, workers=1)
    assert contents(copy) == contents(whole(format))


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.stress)])
def test_kill_at_any_moment_of_a_repair(whole, format, tmp_path, every):
    """Killed before any single change of the disk, the next repair, or plain run, ends in the bytes of before."""
    expected, step, killed = contents(whole(format)), 0, True
    damaged = shutil.copytree(whole(format), tmp_path / "damaged")
    flip(damaged / "manifest.jsonl", 30)
    if format.name == "hdf5":
        flip(damaged / "train_data.hdf5", 60)
    while killed:
        cut = shutil.copytree(damaged, tmp_path / f"cut{step}")
        killed = killed_at(step, lambda cut=cut: repair(SAMPLER, format, cut, workers=1))
        go_on = repair if step % 2 or (cut / "manifest.jsonl").exists() else execute
        go_on(SAMPLER, format, cut, workers=1)
        assert contents(cut) == expected, f"killed at step {step}"
        shutil.rmtree(cut)
        step += every
    assert step > 15


def test_unfinished_data_set_is_repaired_and_finished(whole, copy, format, tmp_path, monkeypatch):
    """What a run stored before it was stopped is read too, and made again where it is damaged."""
    cut = tmp_path / "cut"
    stop_before_the_end(monkeypatch, lambda: execute(SAMPLER, format, cut, workers=1))
    if format.name == "hdf5":
        data = (cut / "train_data.hdf5.partial").read_bytes()
        flip(cut / "train_data.hdf5.partial", data.index(SAMPLER[3].arrays["img"].tobytes()) + 9)
    else:
        flip(cut / f"label_ensembles/{SAMPLER[3].key}.nii.gz", 50)
    assert repair(SAMPLER, format, cut).made == 1
    assert contents(cut) == contents(whole(format))


def test_another_sampler_is_refused(whole, copy, format):
    """A sampler of another recipe repairs nothing, and says which field differs."""
    damage_samples(format, copy)
    before = contents(copy)
    with pytest.raises(PlanError, match=r"recipe\.seed: 0 there, 1 asked"):
        repair(replace(SAMPLER, seed=1), format, copy)
    assert contents(copy) == before


def test_directory_without_data_set_is_an_input_error(tmp_path):
    """Nothing to repair in an empty folder, and nothing is made in it."""
    with pytest.raises(InputError, match="no data set"):
        repair(SAMPLER, Hdf5Format(), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.stress
def test_any_damage_is_repaired(whole, format, tmp_path):
    """A byte flipped anywhere, or any file cut anywhere or deleted: all bytes come back."""
    expected, rng = contents(whole(format)), random.Random(7)
    for name, data in expected.items():
        for kind in ("flip", "flip", "flip", "cut", "delete"):
            cut = shutil.copytree(whole(format), tmp_path / "cut")
            if kind == "flip":
                flip(cut / name, rng.randrange(len(data)))
            elif kind == "cut":
                (cut / name).write_bytes(data[: rng.randrange(len(data))])
            else:
                (cut / name).unlink()
            repair(SAMPLER, format, cut, workers=1)
            assert contents(cut) == expected, (name, kind)
            shutil.rmtree(cut)
