"""The HDF5 layout that training code opens, and how it is filled."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from toy import ToySampler, contents

from voxmint.datasets.format import Output, format_from_spec
from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.errors import PlanError, RecipeError, StorageError
from voxmint.runs.execute import execute
from voxmint.sample import Sample


def make(directory, sampler, val_count=0, order=None):
    output = Output(directory, len(sampler), sampler.layout(), "seed: 0\n")
    output.state.mkdir(parents=True)
    format = Hdf5Format(val_count)
    format.check(output)
    format.begin(output)
    for index in order or range(len(sampler)):
        format.write(output, sampler[index])
    format.sync(output)
    format.commit(output)
    format.cleanup(output)
    return format, output


def test_plain_h5py_opens_it_as_training_code_does(tmp_path):
    """In a Python without our package, keys, images and labels are found as published."""
    sampler = ToySampler(length=7)
    make(tmp_path, sampler, val_count=2)
    code = (
        "import sys, h5py; assert 'voxmint' not in sys.modules\n"
        "for name in ('train', 'val'):\n"
        "    with h5py.File(name + '_data.hdf5', 'r') as f:\n"
        "        print(list(f.keys()), [(f[k]['img'][i].sum(), f[k]['seg'][:].sum()) for k in f for i in (0, 1)])"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    sums = [(s["img"][i].sum(), s["seg"].sum()) for s in (sampler[n].arrays for n in range(7)) for i in (0, 1)]
    expected = [f"{[f'{n:06d}' for n in range(5)]} {sums[:10]}", f"{['000005', '000006']} {sums[10:]}"]
    assert said.splitlines() == expected


def test_arrays_have_the_published_types(tmp_path):
    """`img` is uint8 (2, S, S, S), `seg` is uint8 (S, S, S), and the recipe is inside."""
    make(tmp_path, ToySampler(length=2))
    with h5py.File(tmp_path / "train_data.hdf5") as file:
        assert (file["000001/img"].dtype, file["000001/img"].shape) == (np.uint8, (2, 16, 16, 16))
        assert (file["000001/seg"].dtype, file["000001/seg"].shape) == (np.uint8, (16, 16, 16))
        assert file["000001/img"].chunks is None
        assert file.attrs["voxmint_recipe"] == "seed: 0\n"


def test_empty_validation_set_is_a_valid_file(tmp_path):
    """Without validation samples, `val_data.hdf5` opens and has no groups; the other way round is refused."""
    make(tmp_path / "a", ToySampler(length=2))
    with h5py.File(tmp_path / "a/val_data.hdf5") as val:
        assert list(val.keys()) == []
    with pytest.raises(PlanError, match="none is left to train on"):
        make(tmp_path / "b", ToySampler(length=2), val_count=2)


def test_order_of_writing_leaves_no_trace(tmp_path):
    """Samples written backwards, one of them twice, give the same bytes."""
    make(tmp_path / "a", ToySampler(length=3))
    make(tmp_path / "b", ToySampler(length=3), order=[2, 1, 1, 0])
    assert (tmp_path / "a/train_data.hdf5").read_bytes() == (tmp_path / "b/train_data.hdf5").read_bytes()


def test_checksum_of_the_structure_is_the_same_before_and_after(tmp_path):
    """The manifest entry made with the table of places equals the one found through HDF5 itself."""
    sampler = ToySampler(length=3)
    output = Output(tmp_path, 3, sampler.layout())
    output.state.mkdir()
    format = Hdf5Format(1)
    format.begin(output)
    entries = format.commit(output)
    format.cleanup(output)
    assert [format.entry(output, {"file": entry["file"]}) for entry in entries] == entries


@pytest.mark.parametrize("dtype", [">i2", "<f4", "int64"])
def test_types_survive(tmp_path, dtype):
    """Wider and big-endian types are read back with equal values."""
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    output = Output(tmp_path, 1, {"a": (array.shape, dtype)})
    output.state.mkdir()
    format = Hdf5Format()
    format.begin(output)
    format.write(output, Sample(0, "key", {"a": array[::1]}))
    assert np.array_equal(format.read(output, 0, "key")["a"], array)


@pytest.mark.parametrize(
    "array",
    [
        np.ones((3, 3), np.uint8),
        np.ones((3, 2), np.uint8),
        np.ones(6, np.uint8),
        np.ones((2, 3), np.int8),
        np.ones((1, 3), np.uint16),
    ],
    ids=["larger", "transposed", "flat", "signed", "wider"],
)
def test_array_that_does_not_fit_is_refused(tmp_path, array):
    """A sample of another shape or type than its place is an error, even if its bytes would fit; nothing is written."""
    output = Output(tmp_path, 1, {"a": ((2, 3), "uint8")})
    output.state.mkdir()
    format = Hdf5Format()
    format.begin(output)
    before = (tmp_path / "train_data.hdf5.partial").read_bytes()
    with pytest.raises(StorageError, match="does not fit"):
        format.write(output, Sample(0, "key", {"a": array}))
    assert (tmp_path / "train_data.hdf5.partial").read_bytes() == before


def test_writes_that_the_system_cuts_short_are_continued(tmp_path, monkeypatch):
    """A system that writes a hundred bytes at a time, of samples and of structure, costs no byte."""
    rejected, whole = replace(ToySampler(length=4, side=8), rejected={"1": "no mask"}), os.pwrite
    execute(rejected, Hdf5Format(), tmp_path / "whole", workers=1)
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: whole(file, bytes(data)[:100], place))
    execute(rejected, Hdf5Format(), tmp_path / "short", workers=1)
    assert contents(tmp_path / "short") == contents(tmp_path / "whole")
    format, output = make(tmp_path / "samples", ToySampler(length=2))
    for index in range(2):
        read = format.read(output, index, "")
        assert all(np.array_equal(read[name], array) for name, array in ToySampler()[index].arrays.items())


def test_a_structure_that_was_left_behind_is_not_laid_over_another(tmp_path):
    """A copy of an older structure, without some groups, goes when a new one is made."""
    sampler = ToySampler(length=3, side=4)
    output = Output(tmp_path, 3, sampler.layout(), "seed: 0\n")
    output.state.mkdir(parents=True)
    (output.state / "train_data.hdf5.structure").write_bytes(b"older")
    format = Hdf5Format()
    format.begin(output)
    format.give_up(output, [1])
    format.commit(output)
    with h5py.File(tmp_path / "train_data.hdf5") as file:
        assert list(file) == ["000000", "000002"]


def test_no_worker_creates_a_file(tmp_path):
    """A worker that outlives its run finds no file and makes none."""
    output = Output(tmp_path, 1, {"a": ((2, 2), "uint8")})
    output.state.mkdir()
    format = Hdf5Format()
    format.begin(output)
    (tmp_path / "train_data.hdf5.partial").unlink()
    with pytest.raises(StorageError):
        format.write(output, Sample(0, "key", {"a": np.ones((2, 2), np.uint8)}))
    assert not (tmp_path / "train_data.hdf5.partial").exists()
    with pytest.raises(StorageError, match="gone"):
        format.begin(output)


def test_samples_without_one_shape_are_refused(tmp_path):
    """HDF5 in this layout needs one shape; and no more validation samples than there are."""
    with pytest.raises(PlanError, match="fixed"):
        Hdf5Format().check(Output(tmp_path, 1, {}))
    with pytest.raises(PlanError, match="val_count"):
        Hdf5Format(3).check(Output(tmp_path, 2, {"a": ((2,), "uint8")}))
    with pytest.raises(PlanError, match="val_count"):
        Hdf5Format(-1).check(Output(tmp_path, 2, {"a": ((2,), "uint8")}))


def test_names_grow_with_the_count():
    """Names have six digits, more when the count needs them, and sort as numbers do."""
    from voxmint.datasets.hdf5 import _group

    assert _group(0, 1) == "000000"
    assert _group(999_999, 1_000_000) == "999999"
    assert _group(7, 1_000_001) == "0000007"


@pytest.mark.parametrize("spec", [None, {}, {"name": "os:system"}, {"name": "hdf5", "colour": 1}, {"name": "nifti"}])
def test_unknown_formats_are_refused(spec):
    """Only known names and options build a format."""
    with pytest.raises(RecipeError):
        format_from_spec(spec)


def test_spec_round_trip():
    """A format equals the one built from its spec."""
    assert format_from_spec(Hdf5Format(5).spec()) == Hdf5Format(5)
