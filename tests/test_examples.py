"""The examples: run as a user runs them, on data that the commands make."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from voxmint.cli import main
from voxmint.phantom.layers import TARGET_VOXEL_NM, make_phantom

TRAIN_UNET = Path(__file__).parents[1] / "examples" / "train_unet.py"


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The splits train and validation of a tiny phantom."""
    pytest.importorskip("tensorstore", reason="needs voxmint[cloud]")
    root = tmp_path_factory.mktemp("unet")
    paths = make_phantom(root / "phantom", size=(384, 384, 24), instances=24)
    inputs = [flag for name in ("source", "target", "table") for flag in (f"--{name}", str(paths[name]))]
    voxel_size = ",".join(str(size) for size in TARGET_VOXEL_NM)
    flags = ["--table-voxel-size", voxel_size, "--crop", "16,16,8", "--scenarios", "2", "--workers", "1"]
    split = ["--split", "train=0.6,validation=0.4", "--separate", "blocks"]
    assert main(["instances", "make", *inputs, *flags, *split, "--out", str(root / "samples")]) == 0
    return root / "samples"


def train_unet(samples: Path, *flags: str) -> str:
    command = [sys.executable, "-W", "error", str(TRAIN_UNET), "--data", str(samples), *flags]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


@pytest.mark.stress
def test_the_unet_trains_for_its_time_and_tells_both_dice_coefficients(samples: Path) -> None:
    """A third of a minute: steps were made, and network and copying each have two figures between 0 and 1."""
    told = train_unet(samples, "--minutes", "0.33")
    steps = re.search(r"^([\d,]+) steps of", told, re.MULTILINE)
    assert steps is not None, told
    assert int(steps[1].replace(",", "")) > 1
    for name in ("network", "nearest seed slice"):
        line = re.search(rf"^{name} +(\d\.\d+) +(\d\.\d+)$", told, re.MULTILINE)
        assert line is not None, told
        unseen, whole = (float(figure) for figure in line.groups())
        assert 0 <= unseen < whole <= 1, "the seed slices, given as they are, make the whole the better one"


@pytest.mark.stress
def test_so_many_steps_give_the_same_figures_again(samples: Path) -> None:
    """Weights, order and augmentation come from the seed, whatever the workers: loss and coefficients are equal."""
    once, again = (train_unet(samples, "--steps", "4", "--workers", workers) for workers in ("0", "2"))
    other = train_unet(samples, "--steps", "4", "--seed", "1")
    tables = [told[told.index("4 steps of") :] for told in (once, again, other)]
    assert tables[0] == tables[1]
    assert tables[0] != tables[2]


def test_copying_takes_the_nearest_outlined_slice() -> None:
    """Slices 1 and 4 of 6 are outlined: each slice takes the nearer, and those two stay."""
    nearest_seed_slice = runpy.run_path(str(TRAIN_UNET))["nearest_seed_slice"]
    seed = torch.zeros(2, 6, 3, 3, dtype=torch.bool)
    seed[0, 1, 0, 0] = seed[0, 4, 1, 1] = seed[1, 5, 2, 2] = True
    copied = nearest_seed_slice(seed)
    assert copied[0, :3, 0, 0].all()
    assert copied[0, 3:, 1, 1].all()
    assert copied[1, :, 2, 2].all()
    assert int(copied.sum()) == 12


def test_dice_of_halves_and_of_nothing() -> None:
    """Two of the same size that share half have 0.5; two that are empty have none."""
    dice = runpy.run_path(str(TRAIN_UNET))["dice"]
    one, other = torch.zeros(2, 4), torch.zeros(2, 4)
    one[0, :2] = other[0, 1:3] = 1
    found = dice(one, other)
    assert found[0].item() == pytest.approx(0.5)
    assert found[1].isnan()
