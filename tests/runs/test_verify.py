"""Verification finds every changed, cut, missing or added byte, and says where."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
from toy import ToySampler, contents

from stores import FORMATS
from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.datasets.lines import seal, unseal
from voxmint.datasets.nifti import NiftiFormat
from voxmint.datasets.records import Records
from voxmint.errors import InputError, VerificationError
from voxmint.runs.execute import execute
from voxmint.runs.verify import verify
from voxmint.stores.place import Place

SMALL = ToySampler(length=4, side=4)


def flip(path, position: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def test_whole_data_set_is_found_whole(made, format):
    """Nothing is reported of a data set as it was made, and all samples are counted."""
    report = verify(made(format))
    assert report.ok
    assert (report.finished, report.samples) == (True, 12)
    report.raise_if_wrong()


def test_unfinished_data_set_is_checked_as_far_as_it_is(tmp_path, format):
    """What is stored of an unfinished run is compared; a flipped bit in it is found."""
    execute(ToySampler(), format, tmp_path, only=range(5), workers=1)
    report = verify(tmp_path)
    assert report.ok
    assert (report.finished, report.samples) == (False, 5)
    if isinstance(format, NiftiFormat):
        flip(sorted(tmp_path.glob("label_ensembles/*"))[0], 100)
    else:
        path = tmp_path / "train_data.hdf5.partial"
        flip(path, path.read_bytes().index(ToySampler()[2].arrays["seg"].tobytes()) + 9)
    assert not verify(tmp_path).ok


def test_flipped_byte_of_an_array_names_file_and_sample(tmp_path, copied):
    """One flipped bit in an array is one problem, of that file and sample."""
    copied(FORMATS["hdf5"])
    for name, index in (("train_data.hdf5", 4), ("val_data.hdf5", 10)):
        path = tmp_path / name
        place = path.read_bytes().index(ToySampler()[index].arrays["img"].tobytes()) + 77
        flip(path, place, 3)
        (problem,) = verify(tmp_path).problems
        assert (problem.file, problem.sample) == (name, index)
        flip(path, place, 3)
    assert verify(tmp_path).ok


@pytest.mark.parametrize("share", [150, pytest.param(1, marks=pytest.mark.stress)])
def test_every_flipped_byte_of_every_file_is_found(tmp_path, format, share):
    """A flipped bit anywhere (arrays, structure, gzip, recipe, records, manifest) is found and blamed on its file."""
    execute(SMALL, format, tmp_path, workers=1)
    rng = random.Random(0)
    for name, data in contents(tmp_path).items():
        if name.endswith(".gz") and not name.endswith(SMALL[1].key + ".nii.gz"):
            continue
        for position in range(rng.randrange(share), len(data), share if len(data) < 20_000 else 10 * share):
            flip(tmp_path / name, position, rng.randrange(8))
            problems = verify(tmp_path).problems
            assert any(name in problem.file for problem in problems), f"{name}, byte {position}: {problems}"
            (tmp_path / name).write_bytes(data)
    assert verify(tmp_path).ok


def test_flipped_gzip_byte_names_the_sample(tmp_path, copied):
    """A flipped byte of a NIfTI file names the file and the sample it belongs to."""
    copied(FORMATS["nifti"])
    path = tmp_path / f"synthesized_views/view2/view2_{ToySampler()[3].key}.nii.gz"
    flip(path, path.stat().st_size // 2)
    problems = verify(tmp_path).problems
    assert {problem.sample for problem in problems} == {3}
    assert any(problem.file.endswith(path.name) for problem in problems)


def test_missing_cut_and_added_files_are_named(tmp_path, format):
    """A file that is gone, shorter, or does not belong to the data set is reported by name."""
    execute(SMALL, format, tmp_path, workers=1)
    for name, data in contents(tmp_path).items():
        path = tmp_path / name
        path.unlink()
        if name != "manifest.jsonl":  # without one, the data set is an unfinished one
            assert any(name in problem.file and "missing" in problem.what for problem in verify(tmp_path).problems)
        path.write_bytes(data[:-1])
        assert any(name in problem.file for problem in verify(tmp_path).problems)
        path.write_bytes(data)
    if isinstance(format, NiftiFormat):
        (tmp_path / "label_ensembles" / "stranger.nii.gz").write_bytes(b"")
        (problem,) = verify(tmp_path).problems
        assert problem.file == "label_ensembles/stranger.nii.gz"


@pytest.mark.parametrize("name", ["recipe.yaml", "records.jsonl", "records.npy"])
def test_a_manifest_that_leaves_out_a_summary_is_found(tmp_path, copied, name):
    """A line that is gone from a manifest whose end fits all the same: nothing vouches for that file."""
    copied(FORMATS["hdf5"])
    path = tmp_path / "manifest.jsonl"
    lines = [line for line in path.read_bytes().splitlines(keepends=True)[:-1] if unseal(line).get("file") != name]
    end = seal({"end": len(lines), "sha256": hashlib.sha256(b"".join(lines)).hexdigest()})
    path.write_bytes(b"".join([*lines, end]))
    (problem,) = verify(tmp_path).problems
    assert (problem.file, problem.what) == (name, "is not vouched for by the manifest")


@pytest.mark.parametrize("change", [lambda index: index[[0, 0, *range(2, 12)]], lambda index: index[::-1]])
def test_a_table_of_records_that_is_out_of_order_is_damaged(tmp_path, copied, change):
    """An index that is there twice, or before a smaller one, could be found at the wrong place or not at all."""
    copied(FORMATS["hdf5"])
    table = np.load(tmp_path / "records.npy")
    table["index"] = change(table["index"].copy())
    np.save(tmp_path / "records.npy", table)
    with pytest.raises(VerificationError, match="table of records is damaged"):
        Records(Place(tmp_path))


def test_report_raises_with_everything_named(tmp_path, copied):
    """`raise_if_wrong` lists file and sample."""
    copied(FORMATS["hdf5"])
    path = tmp_path / "train_data.hdf5"
    flip(path, path.read_bytes().index(ToySampler()[6].arrays["seg"].tobytes()))
    with pytest.raises(VerificationError, match=r"train_data\.hdf5, sample 6"):
        verify(tmp_path).raise_if_wrong()


def test_directory_without_data_set_is_an_input_error(tmp_path):
    """An empty folder is no data set."""
    with pytest.raises(InputError, match="no data set"):
        verify(tmp_path)


def test_verification_runs_no_code_that_a_recipe_names(tmp_path):
    """A recipe from elsewhere cannot make `verify` import a module of its choice."""
    execute(ToySampler(), Hdf5Format(), tmp_path, only=range(3), workers=1)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("name: hdf5", "name: 'canary:Format'"))
    (tmp_path / "canary.py").write_text("raise SystemExit('the canary was imported')")
    assert any("format" in problem.what for problem in verify(tmp_path).problems)
