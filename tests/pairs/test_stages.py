"""Samplers that start from files name what they read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from voxmint.nifti.files import write_nifti
from voxmint.pairs.stages import PackSampler, ViewSampler, order_made
from voxmint.sample import content_digest


@pytest.fixture
def volumes(tmp_path: Path) -> list[Path]:
    """Two views and a label volume, as written by the earlier stages."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{name}0.nii.gz" for name in ("view1_", "view2_", "")]
    for path in paths:
        write_nifti(path, rng.integers(0, 5, (12, 13, 14), dtype=np.uint8))
    return paths


def test_a_pack_names_its_files_by_their_voxels(volumes: list[Path]) -> None:
    """A digest changes with a voxel of its file alone, and not with how the file is packed."""
    before = dict(PackSampler([volumes])[0].reads)
    assert before.keys() == {path.name for path in volumes}
    assert len(set(before.values())) == 3
    labels = PackSampler([volumes])[0].arrays["seg"].copy()
    assert before[volumes[2].name] == content_digest(labels)
    labels[3, 4, 5] ^= 1
    write_nifti(volumes[2], labels)
    after = PackSampler([volumes])[0].reads
    assert {name for name in before if before[name] != after[name]} == {volumes[2].name}
    plain = volumes[2].with_suffix("")
    write_nifti(plain, labels)
    assert PackSampler([[*volumes[:2], plain]])[0].reads[plain.name] == after[volumes[2].name]


def test_views_name_the_label_volume(volumes: list[Path]) -> None:
    """By its voxels, as a pack does."""
    assert ViewSampler([volumes[2]])[0].reads == {volumes[2].name: PackSampler([volumes])[0].reads[volumes[2].name]}


def test_label_volumes_come_in_the_order_in_which_they_were_made(tmp_path: Path) -> None:
    """By the records beside them; nothing tells it where these do not know all of them, or are none."""
    for name in "abc":
        (tmp_path / f"{name}.nii.gz").touch()

    def names() -> str:
        return "".join(path.name[0] for path in order_made(tmp_path) or [])

    assert names() == ""
    lines = [json.dumps({"key": key, "index": index}) for index, key in enumerate("bca")]
    (tmp_path / "records.jsonl").write_text("\n".join(lines))
    assert names() == "bca"
    (tmp_path / "records.jsonl").write_text("\n".join(lines[:2]))
    assert names() == ""
