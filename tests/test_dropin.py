"""The published scripts' names, flags and defaults, run as their users run them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest

from voxmint.nifti.files import read_labels, write_nifti
from voxmint.templates.bank import TemplateBank

SCRIPTS = Path(__file__).resolve().parent.parent / "dropin" / "synthetic_data_generation"
FLAGS = {
    "step0_preprocess_totalsegmentator.py": {
        "--totalsegmentator_path": "./Totalsegmentator_dataset/",
        "--max_workers": "None",
    },
    "step1_generate_labels.py": {
        "--n_ensembles": "120000",
        "--min_templates": "20",
        "--max_templates": "40",
        "--side_length": "128",
        "--templatedir": "./Totalsegmentator_dataset/",
        "--savedir": "./label_ensembles/",
        "--max_workers": "None",
        "--seed": "0",
    },
    "step2_generate_views.py": {
        "--start_idx": "0",
        "--end_idx": "120000",
        "--ensembledir": "./label_ensembles/",
        "--savedir": "./synthesized_views/",
        "--max_workers": "3",
        "--seed": "0",
    },
    "step3_generate_h5_w_segs.py": {
        "--view1_dir": "synthesized_views/view1",
        "--view2_dir": "synthesized_views/view2",
        "--seg_dir": "label_ensembles",
        "--out_dir": "./h5_w_segs/",
        "--val_count": "100",
        "--print_every": "10",
        "--seed": "0",
    },
}


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """Hold a small TotalSegmentator-like tree where the scripts look for it by default."""
    grid = np.indices((28, 24, 20))
    for subject in ("s0000", "s0001"):
        folder = tmp_path / "Totalsegmentator_dataset" / subject / "segmentations"
        folder.mkdir(parents=True)
        shapes = {
            "liver": (grid > 5).all(0),
            "aorta": abs(grid[0] - grid[1]) < 2,
            "spleen": grid.sum(0) < 30,
            "rib_left_1": grid[0] < 3,
            "rib_right_2": grid[0] > 25,
            "vertebrae_L1": grid[2] > 16,
            "brain": np.zeros(grid.shape[1:], bool),
        }
        for name, mask in shapes.items():
            write_nifti(folder / f"{name}.nii.gz", mask.astype(np.uint8))
        (folder.parent / "ct.nii.gz").write_bytes(b"never read")
    return tmp_path


def run_apart(script: str, *flags: str, folder: Path) -> str:
    command = [sys.executable, str(SCRIPTS / script), *flags]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def run(script: str, *flags: str, folder: Path) -> str:
    """Run a script in this process, whose start is spared."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        patch.chdir(folder)
        patch.setattr(sys, "argv", [script, *flags])
        patch.setattr("voxmint.cli.signals.stoppable", lambda: None)  # it lasts to the end of a process
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    assert ended.value.code == 0, said.getvalue()
    return said.getvalue()


def hashes(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("script", FLAGS)
def test_flags_and_defaults_are_the_published_ones(script):
    """Every published flag exists with its default, and --seed besides."""
    code = f"import runpy; p = runpy.run_path({str(SCRIPTS / script)!r})['parser']; print(vars(p.parse_args([])))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = dict(re.findall(r"'(\w+)': ('[^']*'|[^,}]+)", done.stdout))
    for flag, default in FLAGS[script].items():
        assert found[flag.removeprefix("--")].strip("'") == default


def test_scripts_make_the_published_files(workplace):
    """The four scripts, one after the other, change nothing of the tree and end in the published data set."""
    tree = workplace / "Totalsegmentator_dataset"
    before = hashes(tree)
    run_apart("step0_preprocess_totalsegmentator.py", folder=workplace)
    after = hashes(tree)
    assert {name: after.get(name) for name in before} == before
    ribs = read_labels(tree / "s0001/segmentations/all_ribs.nii.gz").array
    assert ribs.sum() == 24 * 20 * 5
    small = ["--n_ensembles", "4", "--side_length", "20", "--min_templates", "3", "--max_templates", "6"]
    run_apart("step1_generate_labels.py", *small, folder=workplace)
    names = sorted(path.name for path in (workplace / "label_ensembles").glob("*.nii.gz"))
    pattern = r"(unconstrained|foreground_masked|foreground_masked_enveloped)_shapes[345]_[A-Z0-9]{7}\.nii\.gz"
    assert len(names) == 4
    assert all(re.fullmatch(pattern, name) for name in names)
    run_apart("step2_generate_views.py", "--end_idx", "4", folder=workplace)
    for view in ("view1", "view2"):
        found = sorted(path.name for path in (workplace / "synthesized_views" / view).iterdir())
        assert found == [f"{view}_{name}" for name in names]
    said = run_apart("step3_generate_h5_w_segs.py", "--val_count", "1", "--print_every", "2", folder=workplace)
    assert "2 of 4" in said
    with h5py.File(workplace / "h5_w_segs/train_data.hdf5") as file:
        assert list(file) == ["000000", "000001", "000002"]
        assert file["000000"]["img"].shape == (2, 20, 20, 20)
    for path in (workplace / "label_ensembles" / names[0], *(workplace / "synthesized_views").glob(f"*/*{names[0]}")):
        image = nibabel.load(path)
        assert (image.header["sform_code"], image.header["qform_code"], image.get_data_dtype()) == (2, 0, np.uint8)
        np.testing.assert_array_equal(image.affine, np.eye(4))
    train, val = (TrainingFile(workplace / f"h5_w_segs/{part}_data.hdf5") for part in ("train", "val"))
    read = [*(train[i] for i in range(len(train.keys))), val[0]]
    for name, (labels, views) in zip(names, read, strict=True):
        files = [f"label_ensembles/{name}", *(f"synthesized_views/{view}/{view}_{name}" for view in ("view1", "view2"))]
        for file, array in zip(files, (labels, *views), strict=True):
            np.testing.assert_array_equal(array, np.asanyarray(nibabel.load(workplace / file).dataobj))


class TrainingFile:
    """The published training class, as told: the file's keys, both views of `img` by their numbers, and `seg`."""

    def __init__(self, path: Path) -> None:
        self.file = h5py.File(path, "r")
        self.keys = list(self.file.keys())

    def __getitem__(self, number: int) -> tuple[np.ndarray, list[np.ndarray]]:
        group = self.file[self.keys[number]]
        return group["seg"][()], [group["img"][view] for view in (0, 1)]


def test_sources_are_deleted_only_when_asked(workplace):
    """--delete_sources removes what was merged and verified, and nothing else."""
    folder = workplace / "Totalsegmentator_dataset/s0000/segmentations"
    run("step0_preprocess_totalsegmentator.py", "--delete_sources", "--max_workers", "1", folder=workplace)
    left = sorted(path.name.removesuffix(".nii.gz") for path in folder.iterdir())
    assert left == ["all_ribs", "all_vertebrae", "aorta", "brain", "liver", "spleen"]


def test_nothing_is_deleted_when_a_source_is_damaged(workplace):
    """A cut rib file ends in an error that names it; every file is still there."""
    folder = workplace / "Totalsegmentator_dataset/s0000/segmentations"
    (folder / "rib_left_1.nii.gz").write_bytes((folder / "rib_left_1.nii.gz").read_bytes()[:-5])
    before = hashes(folder)
    command = [sys.executable, str(SCRIPTS / "step0_preprocess_totalsegmentator.py"), "--delete_sources"]
    done = subprocess.run(command, cwd=workplace, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "rib_left_1.nii.gz" in done.stderr
    after = hashes(folder)
    assert {name: after.get(name) for name in before} == before


ONE = ["--max_workers", "1"]
BANK = "Totalsegmentator_dataset/voxmint_bank"
SMALL = ["--n_ensembles", "2", "--side_length", "16", "--min_templates", "3", "--max_templates", "4", *ONE]


def add_subject(workplace: Path) -> Path:
    """Copy a subject's masks, as somebody who adds one to the tree."""
    tree = workplace / "Totalsegmentator_dataset"
    shutil.copytree(tree / "s0000", tree / "s0002")
    return tree / "s0002"


def subjects_of(bank: Path) -> set[str]:
    return {name.partition("/")[0] for name in TemplateBank.open(bank).names}


def test_a_subject_that_is_added_is_noticed_by_each_step(workplace):
    """Step 1 makes a bank of its own from what lies there now; step 0 makes the one in the tree anew, once."""
    run("step0_preprocess_totalsegmentator.py", *ONE, folder=workplace)
    bank, old = workplace / BANK, {"s0000", "s0001"}
    before = hashes(bank)
    run("step0_preprocess_totalsegmentator.py", *ONE, folder=workplace)
    assert hashes(bank) == before
    run("step1_generate_labels.py", *SMALL, "--savedir", "first", folder=workplace)
    assert not (workplace / "first/templates").exists()
    add_subject(workplace)
    said = run("step1_generate_labels.py", *SMALL, "--savedir", "second", folder=workplace)
    assert "changed since the bank beside them was made" in said
    assert subjects_of(workplace / "second/templates") == old | {"s0002"}
    assert hashes(bank) == before
    run("step0_preprocess_totalsegmentator.py", "--delete_sources", *ONE, folder=workplace)
    assert subjects_of(bank) == old | {"s0002"}
    assert not list((workplace / "Totalsegmentator_dataset").rglob("rib_*"))
    assert sorted(path.name for path in (workplace / "Totalsegmentator_dataset").glob("voxmint*")) == ["voxmint_bank"]
    run("step1_generate_labels.py", *SMALL, "--savedir", "third", folder=workplace)
    assert not (workplace / "third/templates").exists()


def test_a_subject_that_cannot_be_read_leaves_bank_and_sources(workplace):
    """Merging works, the new bank does not: the old bank stays as it was, and nothing is deleted until all is well."""
    run("step0_preprocess_totalsegmentator.py", *ONE, folder=workplace)
    bank, tree = workplace / BANK, workplace / "Totalsegmentator_dataset"
    liver = add_subject(workplace) / "segmentations/liver.nii.gz"
    whole = liver.read_bytes()
    liver.write_bytes(whole[:-5])
    before = hashes(tree)
    command = [sys.executable, str(SCRIPTS / "step0_preprocess_totalsegmentator.py"), "--delete_sources"]
    done = subprocess.run(command, cwd=workplace, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "liver.nii.gz" in done.stderr
    assert "Traceback (most recent call last)" not in done.stderr.partition("liver.nii.gz")[0]
    after = hashes(tree)
    assert {name: after.get(name) for name in before} == before
    assert subjects_of(bank) == {"s0000", "s0001"}
    shutil.rmtree(liver.parents[1])
    run("step0_preprocess_totalsegmentator.py", *ONE, folder=workplace)
    assert {name: digest for name, digest in hashes(bank).items() if name in before} == {
        name: digest for name, digest in before.items() if f"{BANK}/" in name
    }
    shutil.copytree(tree / "s0000", tree / "s0003")
    run("step0_preprocess_totalsegmentator.py", "--delete_sources", *ONE, folder=workplace)
    assert subjects_of(bank) == {"s0000", "s0001", "s0003"}
    assert not list(tree.rglob("rib_*"))
    assert sorted(path.name for path in tree.glob("voxmint*")) == ["voxmint_bank"]


@pytest.mark.stress
def test_killed_at_any_moment_the_old_bank_or_the_new_one_is_there(workplace):
    """Step 0 is killed again and again while it makes the bank anew: a whole bank is always found, the parts kept."""
    run("step0_preprocess_totalsegmentator.py", folder=workplace)
    bank, tree = workplace / BANK, workplace / "Totalsegmentator_dataset"
    add_subject(workplace)
    parts = len(list(tree.rglob("rib_*")))
    command = [sys.executable, str(SCRIPTS / "step0_preprocess_totalsegmentator.py"), "--delete_sources"]
    for wait in np.arange(0.2, 5, 0.2):
        with subprocess.Popen(command, cwd=workplace, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(wait)
            process.kill()
        TemplateBank.open(bank).verify()
        if "s0002" not in subjects_of(bank):
            assert len(list(tree.rglob("rib_*"))) == parts
    run(*command[1:], folder=workplace)
    assert subjects_of(bank) == {"s0000", "s0001", "s0002"}
    assert not list(tree.rglob("rib_*"))


@pytest.mark.stress
def test_shell_script_runs_all(workplace):
    """The shell script goes from the tree to HDF5 with default settings but for the number."""
    command = [str(SCRIPTS / "generate_training_data.sh"), "3", "1"]
    subprocess.run(command, cwd=workplace, env={**os.environ, "PYTHON": sys.executable}, check=True)
    with h5py.File(workplace / "h5_w_segs/val_data.hdf5") as file:
        assert file["000002"]["seg"].shape == (128, 128, 128)


def test_steps_again_add_range_and_repack(workplace):
    """Step 1 adds to what is there, step 2 makes the views that are missing, step 3 packs what exists, by name."""
    labels, views = workplace / "label_ensembles", workplace / "synthesized_views"
    said = run("step0_preprocess_totalsegmentator.py", folder=workplace)
    assert "--delete_sources" in said
    run("step1_generate_labels.py", *SMALL, folder=workplace)
    run("step2_generate_views.py", "--end_idx", "2", folder=workplace)
    first = hashes(labels), hashes(views)
    said = run("step1_generate_labels.py", *SMALL, folder=workplace)
    assert "samples   4, 2 of them stored already" in said
    names = sorted(path.name for path in labels.glob("*.nii.gz"))
    assert len(names) == 4
    run("step1_generate_labels.py", *SMALL, "--total", "--savedir", "two", folder=workplace)
    run("step1_generate_labels.py", *SMALL, "--total", "--savedir", "two", folder=workplace)
    assert len(list((workplace / "two").glob("*.nii.gz"))) == 2
    said = run("step3_generate_h5_w_segs.py", "--val_count", "1", folder=workplace)
    assert "order of names" in said
    assert "2 of 4 label ensembles have no views: left out" in said
    with h5py.File(workplace / "h5_w_segs/train_data.hdf5") as file:
        assert len(file) == 1
    run("step2_generate_views.py", "--start_idx", "0", "--end_idx", "3", folder=workplace)
    run("step2_generate_views.py", "--start_idx", "3", folder=workplace)
    for made, folder in zip(first, (labels, views), strict=True):
        now = hashes(folder)
        assert all(now[name] == made[name] for name in made if name.endswith(".nii.gz"))
    assert len(list((views / "view2").iterdir())) == 4
    run("step3_generate_h5_w_segs.py", "--val_count", "1", folder=workplace)
    with (
        h5py.File(workplace / "h5_w_segs/train_data.hdf5") as train,
        h5py.File(workplace / "h5_w_segs/val_data.hdf5") as val,
    ):
        packed = [train[key]["seg"][()] for key in train] + [val[key]["seg"][()] for key in val]
    assert all(np.array_equal(seg, read_labels(labels / name).array) for seg, name in zip(packed, names, strict=True))
    command = [sys.executable, str(SCRIPTS / "step3_generate_h5_w_segs.py"), "--val_count", "4"]
    done = subprocess.run(command, cwd=workplace, capture_output=True, text=True, check=False)
    assert (done.returncode, "0 to 3" in done.stderr) == (1, True)


def test_views_of_a_label_volume_that_changed_are_not_kept(workplace):
    """Ensembles are added, and one that has views already is another one now: refused by its name."""
    run("step0_preprocess_totalsegmentator.py", folder=workplace)
    run("step1_generate_labels.py", *SMALL, folder=workplace)
    run("step2_generate_views.py", folder=workplace)
    run("step1_generate_labels.py", *SMALL, folder=workplace)
    changed = workplace / "label_ensembles" / next((workplace / "synthesized_views/view1").iterdir()).name[6:]
    write_nifti(changed, 1 - np.minimum(read_labels(changed).array, 1))
    command = [sys.executable, str(SCRIPTS / "step2_generate_views.py")]
    done = subprocess.run(command, cwd=workplace, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert changed.name in done.stderr
