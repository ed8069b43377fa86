"""A run that is refused leaves the directory as it was, and of two that start at once one leaves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from voxmint.cli import main
from voxmint.phantom.layers import make_phantom

PAIRS = ["--count", "2", "--side", "16", "--min-templates", "2", "--max-templates", "4", "--workers", "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished data sets of every kind, and what they are made from."""
    folder = tmp_path_factory.mktemp("made")
    make_phantom(folder / "phantom", size=(256, 256, 32), instances=12)
    masks = folder / "masks"
    masks.mkdir()
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[2:6, 2:6, 2:6] = 1
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), masks / "a.nii.gz")
    for words in commands(folder).values():
        assert main(words) == 0
    return folder


def commands(made: Path, out: Path | None = None) -> dict[str, list[str]]:
    """Return what makes each data set, in its own folder or in ``out``."""
    layers = ["--source", f"{made}/phantom/source", "--target", f"{made}/phantom/target"]
    table = ["--table", f"{made}/phantom/materialization.csv", "--table-voxel-size", "16,16,30"]
    words = {
        "bank": ["templates", "procedural", "--count", "3", "--workers", "1"],
        "prepared": ["templates", "prepare", str(made / "masks"), "--workers", "1"],
        "pairs": ["pairs", "make", "--templates", str(made / "bank"), *PAIRS],
        "ensembles": ["pairs", "ensembles", "--templates", str(made / "bank"), *PAIRS],
        "views": ["pairs", "views", "--ensembles", str(made / "ensembles"), "--workers", "1"],
        "instances": ["instances", "make", *layers, *table, "--count", "2", "--crop", "16,16,8", "--workers", "1"],
    }
    return {name: [*line, "--out", str(out or made / name)] for name, line in words.items()}


def listing(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(folder)): (stat.st_ino, stat.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
        for stat in [path.stat()]
    }


KINDS = ("bank", "prepared", "pairs", "ensembles", "views", "instances")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("there", KINDS)
def test_a_data_set_of_another_kind_is_refused_and_left_as_it_is(made, capsys, kind, there) -> None:
    """Names, contents, times and inodes of all files and folders are the same after every kind of run that is none."""
    if kind == there:
        pytest.skip("the same data set")
    before = listing(made / there)
    beside = sorted(path.name for path in made.iterdir())
    assert main(commands(made, made / there)[kind]) == 1
    assert "the directory holds another data set" in capsys.readouterr().err
    assert listing(made / there) == before
    assert sorted(path.name for path in made.iterdir()) == beside


@pytest.mark.parametrize("kind", ["pairs", pytest.param("ensembles", marks=pytest.mark.stress), "bank"])
def test_of_two_recipes_at_once_one_is_made(made, tmp_path, kind) -> None:
    """On one fresh directory exactly one run ends well, and there is nothing of the other one."""
    out = tmp_path / "out"
    both = []
    for seed in ("1", "2"):
        words = [sys.executable, "-m", "voxmint", *commands(made, out)[kind], "--seed", seed]
        both.append(subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=120)[1] for process in both]
    ended = [process.returncode for process in both]
    assert sorted(ended) == [0, 1], said
    alone = tmp_path / "alone"
    assert main([*commands(made, alone)[kind], "--seed", "12"[ended.index(0)]]) == 0
    names = [sorted(os.path.relpath(path, top) for path in top.rglob("*")) for top in (out, alone)]
    assert names[0] == names[1]
    for name in names[0]:
        if (out / name).is_file() and not name.endswith("lock"):
            assert (out / name).read_bytes() == (alone / name).read_bytes(), name
