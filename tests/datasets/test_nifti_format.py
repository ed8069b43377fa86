"""The tree of NIfTI files."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import yaml
from toy import ToySampler

from voxmint.datasets.format import Output, format_from_spec
from voxmint.datasets.nifti import NiftiFormat
from voxmint.errors import PlanError
from voxmint.runs.execute import execute


def make(directory):
    sampler = ToySampler(length=2)
    output = Output(directory, 2, sampler.layout())
    format = NiftiFormat()
    format.check(output)
    format.begin(output)
    return sampler, output, format, [format.write(output, sampler[index]) for index in range(2)]


def test_files_have_the_published_names_and_values(tmp_path):
    """Labels and both views lie where the published scripts put them, and nibabel reads them with identity affine."""
    sampler, _, _, _ = make(tmp_path)
    key, arrays = sampler[1].key, sampler[1].arrays
    for path, array in (
        (f"label_ensembles/{key}.nii.gz", arrays["seg"]),
        (f"synthesized_views/view1/view1_{key}.nii.gz", arrays["img"][0]),
        (f"synthesized_views/view2/view2_{key}.nii.gz", arrays["img"][1]),
    ):
        image = nibabel.load(tmp_path / path)
        assert np.array_equal(np.asarray(image.dataobj), array)
        assert np.array_equal(image.affine, np.eye(4))
        assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (2, 0)


def test_a_tree_keeps_the_code_of_the_affine_that_it_was_begun_with(tmp_path):
    """What a version began that wrote 1, and did not say it, is ended so; no tree has both."""
    execute(ToySampler(length=3, side=4), NiftiFormat(sform=1), tmp_path, workers=1, only=range(1))
    path = tmp_path / "recipe.yaml"
    about = yaml.safe_load(path.read_text()) | {"voxmint": "0.1.0"}
    del about["format"]["sform"]
    path.write_text(yaml.safe_dump(about))
    assert execute(ToySampler(length=3, side=4), NiftiFormat(), tmp_path, workers=1).complete
    codes = {int(nibabel.load(file).header["sform_code"]) for file in tmp_path.rglob("*.nii.gz")}
    assert codes == {1}


def test_a_tree_that_grows_keeps_it_too(tmp_path):
    """All files have the code of the first ones, and the same command finds nothing left to do."""
    execute(ToySampler(length=2, side=4), NiftiFormat(sform=1), tmp_path, workers=1)
    path = tmp_path / "recipe.yaml"
    about = yaml.safe_load(path.read_text()) | {"voxmint": "0.1.0"}
    del about["format"]["sform"]
    path.write_text(yaml.safe_dump(about))
    for made in (1, 0):
        assert execute(ToySampler(length=3, side=4), NiftiFormat(), tmp_path, workers=1).made == made
        assert {int(nibabel.load(file).header["sform_code"]) for file in tmp_path.rglob("*.nii.gz")} == {1}


def test_arrays_are_read_back(tmp_path):
    """`read` returns the sample that was written."""
    sampler, output, format, _ = make(tmp_path)
    read = format.read(output, 1, sampler[1].key)
    assert all(np.array_equal(read[name], array) for name, array in sampler[1].arrays.items())


def test_lost_file_is_noticed(tmp_path):
    """A sample of which a file is gone or cut counts as not stored."""
    _, output, format, written = make(tmp_path)
    assert all(format.stored(output, files) for files in written)
    path = tmp_path / written[0][1]["file"]
    path.write_bytes(path.read_bytes()[:-1])
    assert not format.stored(output, written[0])
    assert format.stored(output, written[1])


def test_leftovers_of_killed_workers_are_removed(tmp_path):
    """Temporary files of this tree go; files of others stay."""
    _, output, format, _ = make(tmp_path)
    left = tmp_path / "label_ensembles" / ".toy.nii.gz.12-ab.part"
    other = tmp_path / "label_ensembles" / ".mine"
    left.touch()
    other.touch()
    format.cleanup(output)
    assert not left.exists()
    assert other.exists()


@pytest.mark.parametrize(
    "path", ["/abs/{key}.nii.gz", "../{key}.nii", "a/../../{key}.nii", "fixed.nii.gz", "{key}.txt"]
)
def test_paths_outside_the_directory_are_refused(path):
    """A path must stay below the directory and hold the key."""
    with pytest.raises(PlanError):
        NiftiFormat(paths={"seg": path})


def test_array_without_path_is_refused(tmp_path):
    """Every array of the samples needs a path, with {n} for four axes."""
    output = Output(tmp_path, 1, ToySampler().layout())
    with pytest.raises(PlanError, match="img"):
        NiftiFormat(paths={"seg": "{key}.nii"}).check(output)
    with pytest.raises(PlanError, match="img"):
        NiftiFormat(paths={"seg": "{key}.nii", "img": "view_{key}.nii"}).check(output)


def test_spec_round_trip():
    """A format equals the one built from its spec."""
    format = NiftiFormat(paths={"seg": "{key}.nii.gz"})
    assert format_from_spec(format.spec()) == format
