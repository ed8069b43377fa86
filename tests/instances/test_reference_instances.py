"""Samples of a phantom beside the plain reference, which shares no code with the library."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cloudvolume", reason="needs voxmint[cloud]")
pytest.importorskip("skimage", reason="needs voxmint[test]")

sys.path.append(str(Path(__file__).parents[1]))
from reference.instances import open_plain, plain_instance, plain_seed, seed_of
from voxmint.errors import RejectedSample
from voxmint.instances.recipe import ChoiceRecipe, InstanceRecipe
from voxmint.instances.sampler import InstanceSampler
from voxmint.instances.table.columns import ColumnMap
from voxmint.instances.table.table import InstanceTable
from voxmint.phantom.layers import make_phantom
from voxmint.volumes.opening import open_layer

CROP = (40, 36, 9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, size=(256, 256, 32), instances=12)
    return folder


@pytest.mark.parametrize("reader", ["tensorstore", "cloudvolume"])
def test_samples_are_what_the_plain_reference_makes(folder: Path, reader: str) -> None:
    """Image, mask, valid voxels and seed, byte for byte; crops over the border are among them, and rejections."""
    layers = [open_layer(folder / name, reader=reader) for name in ("source", "target")]
    table = InstanceTable(folder / "materialization.csv", ColumnMap(voxel_size_nm=layers[1].voxel_size_nm))
    rows = [row for batch in table.batches() for row in batch.rows.instances()]
    recipe = InstanceRecipe(crop_vx=CROP, choice=ChoiceRecipe(by="nearest"))
    sampler = InstanceSampler(recipe, layers[0], layers[1], rows)
    source, target = open_plain(folder)
    made = padded = 0
    for index, row in enumerate(rows):
        plain = plain_instance(source, target, row.centre_nm, CROP, recipe.choice.max_distance_nm)
        if plain is None:
            with pytest.raises(RejectedSample):
                sampler[index]
            continue
        sample = sampler[index]
        kept = sample.record["kept_slices"]
        expected = {"source": plain.source, "target": plain.target, "valid": plain.valid}
        for name, array in {**expected, "seed": seed_of(plain.target, kept)}.items():
            assert sample.arrays[name].tobytes() == array.T.tobytes(), (name, index)
        assert sample.record["component"]["voxels"] == plain.metadata["voxels"]
        made, padded = made + 1, padded + int(not plain.valid.all())
    assert 8 <= made < len(rows)
    assert 0 < padded < made


def test_the_reference_keeps_slices_on_which_the_instance_is() -> None:
    """At least one, whatever is drawn."""
    random, target = np.random.Generator(np.random.Philox(3)), np.zeros((4, 4, 9), np.uint8)
    target[1:3, 1:3, 2:7] = 1
    for _ in range(50):
        seed, kept = plain_seed(target, random)
        assert kept
        assert set(kept) <= set(range(2, 7))
        assert np.array_equal(seed, seed_of(target, kept))
