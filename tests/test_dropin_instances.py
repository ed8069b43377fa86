"""The drop-in generator of instances, run from its own folder as its users run it, and its functions."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from voxmint.cli import main
from voxmint.errors import InputError, RecipeError, RunError
from voxmint.phantom.layers import make_phantom
from voxmint.stores.place import Place

sys.path.append(str(Path(__file__).parent / "volumes"))
from servers import gcs_environment, gcs_server

for package in ("tensorstore", "cloudvolume", "gcsfs"):
    pytest.importorskip(package, reason="needs voxmint[cloud]")
pytest.importorskip("gcp_storage_emulator", reason="needs voxmint[test]")

FOLDER = Path(__file__).resolve().parent.parent / "dropin" / "depthwise_segmentation"
CROP = {"crop_size_x": 18, "crop_size_y": 16, "crop_size_z": 9}
XYZ = ["x", "y", "z"]
SCRIPT = Path(__file__).parent / "reference" / "published_script.py"


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


@pytest.fixture(scope="module")
def chain(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What a user's script writes, and what it prints; it finds our module where theirs was."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "data_generator.py").write_bytes((FOLDER / "data_generator.py").read_bytes())
    (folder / "published_script.py").write_bytes(SCRIPT.read_bytes())
    command = [sys.executable, "published_script.py", str(phantom), "data"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "data", done.stdout


class TrainingFolder:
    """The published training class, as told: (2, Z, Y, X) and (1, Z, Y, X) float32 from three folders."""

    def __init__(self, folder: Path) -> None:
        folders = [folder / name for name in ("source", "target", "gt")]
        self.files = list(zip(*(sorted(one.iterdir()) for one in folders), strict=True))

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        image, seed, target = (np.load(path).transpose(2, 1, 0).astype(np.float32) for path in self.files[number])
        assert image.shape == seed.shape == target.shape
        return np.stack([image / 255, (seed > 0).astype(np.float32)]), (target > 0).astype(np.float32)[None]


def test_a_users_script_makes_what_the_command_makes(phantom, chain, tmp_path) -> None:
    """Called as published, the functions write the very files of `instances make --array-axes xyz`, and tell losses."""
    folder, told = chain
    layers = [part for name in ("source", "target") for part in (f"--{name}", str(phantom / name))]
    table = ["--table", str(phantom / "materialization.csv"), "--table-voxel-size", "16,16,30", "--count", "12"]
    flags = ["--crop", "18,16,9", "--array-axes", "xyz", "--workers", "1", "--out", str(tmp_path / "made")]
    assert main(["instances", "make", *layers, *table, *flags]) == 0
    names = [name for name in names_of(tmp_path / "made") if not name.startswith("valid/")]
    assert names_of(folder) == names
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "made" / name).read_bytes()
    rejected = (folder / "rejected.csv").read_text().splitlines()[1:]
    assert len(names) == 3 * (12 - len(rejected))
    assert rejected
    assert f"download_subvolumes: {12 - len(rejected)} of 12 instances" in told
    assert f"  1 times: {rejected[0].split(',')[2]}" in told
    assert "(127, 127, 31) (254, 254, 31) {'x': 2.0, 'y': 2.0, 'z': 1.0}" in told
    assert "picture   " in told
    assert len(list((folder / "pictures").glob("*.png"))) == 3


def test_the_training_class_reads_the_folders(chain) -> None:
    """Three folders of the same instances, all of one size: image over 255, seed and target binary, seed in target."""
    samples = TrainingFolder(chain[0])
    assert len(samples.files) >= 8
    for number in range(len(samples.files)):
        (image, seed), (target,) = samples[number]
        assert image.shape == (9, 32, 36)
        assert 0 <= image.min() < image.max() <= 1
        assert (seed <= target).all()
        kept = np.flatnonzero(seed.any(axis=(1, 2)))
        assert 1 <= len(kept) <= 3
        np.testing.assert_array_equal(seed[kept], target[kept])


def test_other_orders_of_axes(phantom, chain, generator, tmp_path) -> None:
    """In z, y, x every result is the one of x, y, z turned; the published code is right for x, y, z alone."""
    order = ["z", "y", "x"]
    keys, rows = generator.select_random_instances(12, str(phantom / "materialization.csv"))
    volumes = generator.connect_to_cloudvolumes(f"file://{phantom}/source", f"file://{phantom}/target", "")
    sizes, scaled, scale = generator.cloudvolume_metadata(*volumes, order, ["30", "8", "8"], ["30", "16", "16"])
    assert (sizes, scaled, scale) == ((31, 127, 127), (31, 254, 254), {"z": 1.0, "y": 2.0, "x": 2.0})
    for batch in (keys[:5], keys[5:]):
        generator.download_subvolumes(batch, *volumes, tmp_path, rows, order, CROP, sizes, scale)
        generator.generate_training_data(batch, rows, tmp_path, order)
    names = names_of(chain[0])
    assert names_of(tmp_path) == names
    for name in names:
        np.testing.assert_array_equal(np.load(tmp_path / name), np.load(chain[0] / name).T)
    assert (tmp_path / "rejected.csv").read_bytes() == (chain[0] / "rejected.csv").read_bytes()


def test_boxes_and_padding_make_up_the_crop(phantom, generator) -> None:
    """Over every border, offset and last plane counted; what is padded is what the voxels of a sample are not."""
    volumes = generator.connect_to_cloudvolumes(str(phantom / "source"), str(phantom / "target"))
    sizes, *_ = generator.cloudvolume_metadata(*volumes, XYZ, [8, 8, 30], [16, 16, 30])
    low, high = volumes[1].bounds.start, volumes[1].bounds.stop
    for corner in (low, [n - 1 for n in high]):
        point = dict(zip(XYZ, corner, strict=True))
        box, padding = generator.get_bbox_from_instance_data(point, XYZ, CROP, sizes)
        assert [b - a for a, b in zip(box[::2], box[1::2], strict=True)] == [
            n - sum(p) for n, p in zip(CROP.values(), padding, strict=True)
        ]
        assert list(low) == box[::2] or list(high) == box[1::2]
        cut = volumes[1].read(generator.Box(tuple(box[::2]), tuple(box[1::2]))).array
        whole = generator.apply_padding_to_segmentation(cut, padding, 7)
        assert whole.shape == tuple(CROP.values())
        assert (whole == 7).sum() >= whole.size - cut.size
    assert generator.calculate_crop_pad([-3, 5, 2, 9, 1, 12], (10, 10, 10)) == (
        [0, 5, 2, 9, 1, 10], ((3, 0), (0, 0), (0, 2)),
    )  # fmt: skip


def test_seed_layers_and_augmentation(generator, monkeypatch) -> None:
    """Sets within the slices, others in each call, the same in each process; all other slices of z become zero."""

    def draws(seed: int) -> list[set[int]]:
        monkeypatch.setattr(generator, "_calls", iter(range(99)))
        monkeypatch.setattr(generator, "SEED", seed)
        return [generator.get_seed_layers(16) for _ in range(20)]

    first = draws(0)
    assert first == draws(0) != draws(1)
    assert all(isinstance(kept, set) and 1 <= len(kept) <= 3 and kept <= set(range(16)) for kept in first)
    assert len({tuple(sorted(kept)) for kept in first}) > 5
    target = np.ones((4, 5, 16), np.uint8)
    augmented = generator.augment_target_volume(target, {3, 9}, XYZ)
    assert np.flatnonzero(augmented.any(axis=(0, 1))).tolist() == [3, 9]
    assert generator.augment_target_volume(target.T, {3, 9}, "zyx").any(axis=(1, 2)).nonzero()[0].tolist() == [3, 9]
    assert target.all()


def test_wrong_settings_are_told(phantom, generator, tmp_path) -> None:
    """Each is an error that names the argument, before anything is written."""
    table = str(phantom / "materialization.csv")
    keys, rows = generator.select_random_instances(3, table)
    volumes = generator.connect_to_cloudvolumes(str(phantom / "source"), str(phantom / "target"), "no/such.json")
    download, meta = generator.download_subvolumes, generator.cloudvolume_metadata
    out = tmp_path / "out"
    for words, call in (
        ("200 instances asked for, but there are 12", lambda: generator.select_random_instances(200, table)),
        ("n: no such number", lambda: generator.select_random_instances("few", table)),
        ("coordinate_order", lambda: meta(*volumes, ["x", "y"], [8, 8, 30], [16, 16, 30])),
        ("coord_resolution_target", lambda: meta(*volumes, XYZ, ["8", "8", "30"], ["16", "16"])),
        ("scale factors are not those", lambda: meta(*volumes, XYZ, ["4", "4", "30"], ["16", "16", "30"])),
        ("add crop_size_z", lambda: download(keys, *volumes, out, rows, XYZ, {"crop_size_x": 8, "crop_size_y": 8})),
        ("crop_size_y", lambda: download(keys, *volumes, out, rows, XYZ, {**CROP, "crop_size_y": 0})),
        ("instance_keys", lambda: download([99], *volumes, out, rows, XYZ, CROP)),
        ("download_subvolumes", lambda: generator.generate_training_data(keys, rows, out, XYZ)),
        ("seed_layers", lambda: generator.augment_target_volume(np.ones((2, 2, 2)), {2}, XYZ)),
        ("padding", lambda: generator.apply_padding_to_segmentation(np.ones((2, 2)), ((1, -1), (0, 0)))),
    ):
        with pytest.raises((InputError, RecipeError), match=words):
            call()
    assert not out.exists()


def test_absent_chunks_are_told_until_they_are_declared(phantom, generator, tmp_path, monkeypatch, capsys) -> None:
    """Others are written, the error names the setting; with it all are. Rows outside the volume are told."""
    holed = shutil.copytree(phantom / "target", tmp_path / "target")
    for path in sorted(holed.rglob("*-*_*-*_*-*"))[1::4]:
        path.unlink()
    keys, rows = generator.select_random_instances(12, str(phantom / "materialization.csv"))
    rows[keys[0]] |= {"x": 5000}
    arguments = (tmp_path / "out", rows, XYZ, CROP, (127, 127, 31), {"x": 2.0, "y": 2.0, "z": 1.0})
    with pytest.raises(RunError, match="set SOURCE_SPARSE or TARGET_SPARSE of this module to True"):
        generator.download_subvolumes(keys, *generator.connect_to_cloudvolumes(phantom / "source", holed), *arguments)
    told = capsys.readouterr().out
    assert "1 times: the centre lies outside the target's volume" in told
    assert "could not be read" in told
    some = names_of(tmp_path / "out")
    monkeypatch.setattr(generator, "TARGET_SPARSE", True)
    generator.download_subvolumes(keys, *generator.connect_to_cloudvolumes(phantom / "source", holed), *arguments)
    assert set(some) < set(names_of(tmp_path / "out"))


def test_each_secret_is_read(phantom, generator, tmp_path) -> None:
    """A broken secrets file is named by whichever layer it is for; a local layer needs none."""
    broken = tmp_path / "broken.json"
    broken.write_text("no JSON")
    for pair in (("s3://bucket/x", str(phantom / "target")), (str(phantom / "source"), "s3://bucket/x")):
        with pytest.raises(InputError, match=r"broken\.json: the secrets file is not a JSON object"):
            generator.connect_to_cloudvolumes(*pair, broken)


def test_arrays_go_to_a_bucket_and_come_back(phantom, generator, chain, emulator, monkeypatch, tmp_path) -> None:
    """By blob and bucket name; and without LOCAL_EXECUTION the folder is a bucket, with the same files in it."""
    for name, value in emulator.items():
        monkeypatch.setenv(name, value)
    array = np.arange(24, dtype=np.uint16).reshape(2, 3, 4).T
    generator.upload_to_bucket("arrays/one.npy", array, "bucket")
    back = generator.download_from_bucket("arrays/one.npy", "gs://bucket")
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    monkeypatch.setattr(generator, "LOCAL_EXECUTION", False)
    keys, rows = generator.select_random_instances(12, str(phantom / "materialization.csv"))
    volumes = generator.connect_to_cloudvolumes(str(phantom / "source"), str(phantom / "target"))
    sizes, _, scale = generator.cloudvolume_metadata(*volumes, XYZ, ["8", "8", "30"], ["16", "16", "30"])
    generator.download_subvolumes(keys, *volumes, "bucket/users", rows, XYZ, CROP, sizes, scale)
    generator.generate_training_data(keys, rows, "bucket/users", XYZ, 9)
    store = Place("gs://bucket/users")
    names = names_of(chain[0])
    assert sorted(name for name in store.list() if name.endswith(".npy")) == names
    assert all(store.read(name) == (chain[0] / name).read_bytes() for name in names)
