"""The drop-in generator of instances, run from its own folder as its users run it, and its functions."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from voxmint.errors import InputError
from voxmint.instances.recipe import FewRecipe, InstanceRecipe, SeedRecipe
from voxmint.phantom.layers import make_phantom
from voxmint.stores.place import Place

sys.path.append(str(Path(__file__).parent / "volumes"))
from servers import gcs_environment, gcs_server

for package in ("tensorstore", "cloudvolume", "gcsfs"):
    pytest.importorskip(package, reason="needs voxmint[cloud]")
pytest.importorskip("gcp_storage_emulator", reason="needs voxmint[test]")

FOLDER = Path(__file__).resolve().parent.parent / "dropin" / "depthwise_segmentation"
SIZE = (16.0, 16.0, 30.0)
RECIPE = InstanceRecipe(crop_vx=(16, 16, 8))


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, size=(256, 256, 32), instances=12)
    return folder


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("data_generator", FOLDER / "data_generator.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a process needs in its environment to speak to an emulator of GCS."""
    folder = tmp_path_factory.mktemp("gcs")
    with gcs_server(folder / "gcs.log") as url:
        yield {**gcs_environment(url), "CLOUD_VOLUME_DIR": str(folder)}


def run(phantom: Path, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the script in its own folder (a copy), with settings in the environment."""
    for script in FOLDER.glob("*.py"):
        (folder / script.name).write_bytes(script.read_bytes())
    settings = {
        "NUMBER_OF_INSTANCES": "6",
        "SOURCE_URL": f"{phantom}/source",
        "TARGET_URL": f"file://{phantom}/target",
        "TABLE": f"{phantom}/materialization.csv",
        "TABLE_VOXEL_SIZE_NM": "16,16,30",
        "CROP_VX": "16,16,8",
        "WORKERS": "1",
    }
    environment = {**os.environ, **settings, **more, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "main_data_generator_gcp.py"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def names_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.npy") if path.parent != folder)


def test_script_makes_the_tree_in_a_folder_and_in_a_bucket(phantom, emulator, tmp_path, monkeypatch) -> None:
    """LOCAL_RUN fills a folder; without it the bucket gets the same files."""
    done = run(phantom, tmp_path, LOCAL_RUN="true", LOCAL_DIRECTORY="local")
    assert done.returncode == 0, done.stderr
    names = names_of(tmp_path / "local")
    lines = (tmp_path / "local/records.jsonl").read_text().splitlines()
    ids = [json.loads(line)["key"] for line in lines]
    assert 5 <= len(ids) <= 6
    expected = [f"{folder}_{key}.npy" for key in ids for folder in ("source/source", "gt/target", "valid/valid")]
    assert names == sorted(expected + [f"target/augmented_target_{key}.npy" for key in ids])
    monkeypatch.setenv("VOXMINT_STATE", str(tmp_path / "state"))
    bucket = "gs://bucket/synapses"
    done = run(phantom, tmp_path, LOCAL_RUN="false", BUCKET=bucket, **emulator)
    assert done.returncode == 0, done.stderr
    for name, value in emulator.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    store = Place(bucket)
    assert sorted(name for name in store.list() if name.endswith(".npy") and "/" in name) == names
    for name in names:
        assert store.read(name) == (tmp_path / "local" / name).read_bytes()


def test_script_tells_what_is_wrong(phantom, tmp_path) -> None:
    """A wrong voxel size of the table ends with the likely one and no traceback."""
    done = run(phantom, tmp_path, LOCAL_DIRECTORY="local", TABLE_VOXEL_SIZE_NM="8,8,30")
    assert done.returncode == 1
    assert "look like 16x16x30 nm, not 8x8x30 nm" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "local").exists()


def test_building_blocks_on_real_layers(phantom, generator, tmp_path) -> None:
    """From the table to a picture of a sample, each function on the phantom's layers."""
    table = phantom / "materialization.csv"
    rows = generator.select_random_instances(table, SIZE, 5, seed=3)
    assert [row.id for row in rows] == [row.id for row in generator.select_random_instances(table, SIZE, 5, seed=3)]
    assert len({row.id for row in rows}) == 5
    source, target = generator.connect_to_volumes(f"{phantom}/source", f"{phantom}/target")
    about = generator.volume_metadata(source, target)
    assert about["source_dimensions"] == (256, 256, 32)
    assert about["target_dimensions"] == (128, 128, 32)
    assert about["scale_factors"] == [2.0, 2.0, 1.0]
    box = generator.bounding_box(rows[0].centre_nm, (17, 16, 9), SIZE)
    assert box.shape == (17, 16, 9)
    cutout = generator.download_subvolume(target, box)
    assert cutout.array.shape == cutout.valid.shape == (17, 16, 9)
    for row in (row for row in rows if row.id != 11):
        sample = generator.generate_training_sample(row, source, target, RECIPE, seed=1)
        assert sample.arrays["source"].shape == (8, 32, 32)
        assert set(np.unique(sample.arrays["target"])) == {0, 1}
        assert (sample.arrays["seed"] <= sample.arrays["target"]).all()
    generator.visualize(sample, tmp_path / "sample.png")
    assert (tmp_path / "sample.png").stat().st_size > 1000


def test_padding_is_what_is_asked_for_and_only_outside(phantom, generator) -> None:
    """A box over the volume's corner is padded on all three axes, and unchanged within."""
    source, _ = generator.connect_to_volumes(f"{phantom}/source", f"{phantom}/target")
    start = source.bounds.start
    corner = tuple(n * s for n, s in zip(start, source.voxel_size_nm, strict=True))
    cutout = generator.download_subvolume(source, generator.bounding_box(corner, (8, 8, 8), source.voxel_size_nm))
    padded = generator.apply_padding(cutout, 148)
    outside = np.ones((8, 8, 8), bool)
    outside[4:, 4:, 4:] = False
    np.testing.assert_array_equal(~cutout.valid, outside)
    assert (padded[outside] == 148).all()
    np.testing.assert_array_equal(padded[~outside], cutout.array[~outside])
    black = dataclasses.replace(cutout, array=np.zeros_like(cutout.array))
    np.testing.assert_array_equal(generator.apply_padding(black, 148), np.where(outside, 148, 0))


def test_seed_layers_and_augmentation(generator) -> None:
    """Kept slices are reproducible, within the target, and all others are zero."""
    kept = generator.select_seed_layers(16, seed=4)
    assert kept == generator.select_seed_layers(16, seed=4)
    assert 1 <= len(kept) <= 3
    assert all(0 <= number < 16 for number in kept)
    assert len({tuple(generator.select_seed_layers(16, seed=seed)) for seed in range(20)}) > 5
    target = np.ones((16, 4, 4), np.uint8)
    augmented = generator.augment_target(target, kept)
    assert np.flatnonzero(augmented.any(axis=(1, 2))).tolist() == sorted(kept)
    assert target.all()


def test_seeds_and_recipes_decide_what_is_drawn(phantom, generator) -> None:
    """The same seed gives the same rows, slices and sample; another one other rows and slices, of the same mask."""
    table = phantom / "materialization.csv"
    drawn = {seed: [row.id for row in generator.select_random_instances(table, SIZE, 5, seed=seed)] for seed in (0, 1)}
    assert drawn[0] != drawn[1]
    assert drawn[0] == [row.id for row in generator.select_random_instances(table, SIZE, 5)]
    one = SeedRecipe(few=FewRecipe(limits=(1, 1)))
    assert all(len(generator.select_seed_layers(16, one, seed=seed)) == 1 for seed in range(10))
    assert generator.select_seed_layers(16) == generator.select_seed_layers(16, seed=0)
    layers = generator.connect_to_volumes(f"{phantom}/source", f"{phantom}/target")
    row = next(row for row in generator.select_random_instances(table, SIZE, 5) if row.id != 11)
    samples = {seed: generator.generate_training_sample(row, *layers, RECIPE, seed=seed) for seed in range(6)}
    again = generator.generate_training_sample(row, *layers, RECIPE)
    assert again.digest() == samples[0].digest()
    assert len({sample.arrays["seed"].tobytes() for sample in samples.values()}) > 1
    assert len({sample.arrays["target"].tobytes() for sample in samples.values()}) == 1


def test_each_secret_is_read(phantom, generator, tmp_path) -> None:
    """A broken secrets file is named by whatever opens something with it: layers one by one, and both transfers."""
    broken = tmp_path / "broken.json"
    broken.write_text("no JSON")
    address = "s3://bucket/x"
    for call in (
        lambda: generator.connect_to_volumes(address, str(phantom / "target"), secrets=broken),
        lambda: generator.connect_to_volumes(str(phantom / "source"), address, secrets=broken),
        lambda: generator.upload_array(np.zeros(3), address, "a.npy", secrets=broken),
        lambda: generator.download_array(address, "a.npy", secrets=broken),
    ):
        with pytest.raises(InputError, match=r"broken\.json: the secrets file is not a JSON object"):
            call()


def test_arrays_go_up_and_come_down(generator, emulator, tmp_path, monkeypatch) -> None:
    """An array is the same after a folder and after a bucket."""
    for name, value in emulator.items():
        monkeypatch.setenv(name, value)
    array = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    for place in (tmp_path, "gs://bucket/arrays"):
        generator.upload_array(array, place, "source/source_1.npy")
        back = generator.download_array(place, "source/source_1.npy")
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)
    np.testing.assert_array_equal(np.load(tmp_path / "source/source_1.npy"), array)
