"""Training data sets: geometry, reproducibility, and real DataLoaders with real processes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader

sys.path.append(str(Path(__file__).parent / "volumes"))
from servers import both_clouds

from places import SHAPE, Pairs, Places, seed_of, target_of
from voxmint.datasets.format import Output
from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.datasets.lines import compact
from voxmint.datasets.npy import NpyFormat
from voxmint.datasets.records import write_records
from voxmint.errors import InputError, RecipeError, RejectedSample
from voxmint.instances.recipe import InstanceRecipe
from voxmint.instances.sampler import InstanceSampler
from voxmint.instances.table.columns import ColumnMap
from voxmint.instances.table.table import InstanceTable
from voxmint.phantom.layers import TARGET_VOXEL_NM, make_phantom
from voxmint.recipe import write_yaml
from voxmint.runs.execute import execute
from voxmint.stores.place import Place
from voxmint.torch import InstanceDataset, PairDataset, resize_image, resize_masks, usable_indices
from voxmint.volumes.opening import open_layer


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same samples in each kind of output."""
    root = tmp_path_factory.mktemp("stored")
    for name, store in {"hdf5": Hdf5Format(val_count=2), "npy": NpyFormat()}.items():
        assert execute(Places(), store, root / name, workers=1).complete
    return {name: root / name for name in ("hdf5", "npy")}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The samples in a bucket, opened where the state of their run is not."""
    for package in ("s3fs", "moto", "gcsfs", "gcp_storage_emulator"):
        pytest.importorskip(package, reason="needs voxmint[cloud,test]")
    folder = tmp_path_factory.mktemp("bucket")
    with both_clouds(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXMINT_STATE", str(folder / "made"))
        assert execute(Places(), NpyFormat(), "s3://bucket/places", workers=1).complete
        patch.setenv("VOXMINT_STATE", str(folder / "another machine"))
        yield "s3://bucket/places"
        assert not (folder / "another machine").exists()


@pytest.fixture(scope="module")
def layered(tmp_path_factory: pytest.TempPathFactory) -> InstanceSampler:
    """A sampler over layers that TensorStore reads."""
    pytest.importorskip("tensorstore", reason="needs voxmint[cloud]")
    paths = make_phantom(tmp_path_factory.mktemp("phantom"), size=(96, 96, 9), instances=1)
    rows = next(InstanceTable(paths["table"], ColumnMap(voxel_size_nm=TARGET_VOXEL_NM)).batches()).rows
    source, target = (open_layer(paths[name], reader="tensorstore") for name in ("source", "target"))
    return InstanceSampler(InstanceRecipe(crop_vx=(16, 16, 4), scenarios=2), source, target, rows)


def items(dataset: Any, **options: Any) -> list[Any]:
    return [[part[0] for part in item] for item in DataLoader(dataset, batch_size=1, **options)]


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_an_item_is_image_and_seed_and_target() -> None:
    """(2, Z, Y, X) and (1, Z, Y, X) float32: image over 255, both masks 0 or 1."""
    dataset, source = InstanceDataset(Places()), Places()[1].arrays["source"]
    inputs, target = dataset[1]
    assert (inputs.shape, inputs.dtype) == ((2, *SHAPE), torch.float32)
    assert (target.shape, target.dtype) == ((1, *SHAPE), torch.float32)
    assert np.array_equal(inputs[0].numpy(), source.astype(np.float32) / np.float32(255))
    assert np.array_equal(inputs[1].numpy(), seed_of(source))
    assert np.array_equal(target[0].numpy(), target_of(source))


@pytest.mark.parametrize("kind", ["hdf5", "npy"])
def test_every_output_gives_the_items_of_the_sampler(stored: dict[str, Path], kind: str) -> None:
    """HDF5 over both of its files, and a tree of .npy."""
    assert same(items(InstanceDataset(stored[kind])), items(InstanceDataset(Places())))


def test_a_bucket_gives_the_items_of_the_sampler(bucket: str) -> None:
    """Its address is enough: nothing is needed of the machine that made it, nor left on this one."""
    assert same(items(InstanceDataset(bucket)), items(InstanceDataset(Places())))


def test_opening_reads_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20,000 pairs the table of records is mapped; records are read one by one, as samples are asked for."""
    count, shape = 20_000, (1, 2, 2)
    samples = (
        {"index": index, "key": str(index), "digest": f"{index:064x}", "record": {"padding": "x" * 200}}
        for index in range(count)
    )
    write_records(tmp_path, ((sample, compact(sample).encode()) for sample in samples), count)
    layout = {"img": ((2, *shape), "uint8"), "seg": (shape, "uint8")}
    output, format = Output(tmp_path, count, layout), NpyFormat()
    format.begin(output)
    written = Pairs(count, shape)[7]
    format.write(output, written)
    arrays = {name: {"shape": list(each), "dtype": dtype} for name, (each, dtype) in layout.items()}
    about = {"generator": "pairs", "count": count, "arrays": arrays, "format": format.spec()}
    (tmp_path / "recipe.yaml").write_text(write_yaml(about))
    (tmp_path / "manifest.jsonl").touch()
    read: list[tuple[str, int]] = []
    whole, part = Place.read, Place.read_part

    def noted(self: Place, name: str) -> bytes:
        read.append((name, self.size(name) or 0))
        return whole(self, name)

    def noted_part(self: Place, name: str, start: int, stop: int) -> bytes:
        read.append((name, stop - start))
        return part(self, name, start, stop)

    def refused(self: Place, name: str) -> Any:
        raise AssertionError(f"{name} is read line by line")

    monkeypatch.setattr(Place, "read", noted)
    monkeypatch.setattr(Place, "read_part", noted_part)
    monkeypatch.setattr(Place, "lines", refused)
    tracemalloc.start()
    dataset = PairDataset(tmp_path)
    assert len(dataset) == count
    assert {name for name, _ in read} == {"recipe.yaml"}
    assert tracemalloc.get_traced_memory()[1] < 2 << 20, "the records are 6 MB, their table 1.4"
    tracemalloc.stop()
    assert np.array_equal(dataset[7][2][0].numpy(), written.arrays["seg"])
    assert sum(size for name, size in read if name == "records.jsonl") < 1000


def test_augmentation_moves_everything_alike() -> None:
    """After any flip or turn the masks are still those functions of the image, and all voxels are there once."""
    dataset = InstanceDataset(Places(), augment=True)
    before, seen = sorted(Places()[1].arrays["source"].flat), set()
    for epoch in range(200):
        dataset.set_epoch(epoch)
        inputs, target = dataset[1]
        source = (inputs[0] * 255).round().numpy().astype(int)
        assert np.array_equal(target[0].numpy(), target_of(source))
        assert np.array_equal(inputs[1].numpy(), seed_of(source))
        assert sorted(source.flat) == before
        seen.add(source.tobytes())
    assert len(seen) == 16, "two ways along z, eight in the plane"


def test_no_quarter_turn_where_sides_differ() -> None:
    """Unequal y and x keep the shape and are flipped only."""
    dataset = InstanceDataset(Places(shape=(2, 6, 5)), augment=True)
    seen = set()
    for epoch in range(60):
        dataset.set_epoch(epoch)
        inputs, _ = dataset[0]
        assert inputs.shape == (2, 2, 6, 5)
        seen.add(inputs.numpy().tobytes())
    assert len(seen) == 8


def test_seed_epoch_and_index_decide_the_augmentation() -> None:
    """Equal for equal ones; another seed or epoch, or a sample in another place of a subset, is told apart or not."""
    one, same_again = (InstanceDataset(Places(), augment=True, seed=3) for _ in range(2))
    other = InstanceDataset(Places(), augment=True, seed=4)
    first = items(one)
    assert same(first, items(same_again))
    assert not same(first, items(other))
    one.set_epoch(1)
    assert not same(first, items(one))
    one.set_epoch(0)
    assert same(first, items(one))
    subset = InstanceDataset(Places(), augment=True, seed=3, indices=[4, 1])
    assert same(items(subset), [first[4], first[1]])


def test_workers_by_fork_give_the_same_items(stored: dict[str, Path]) -> None:
    """Two forked workers over HDF5 whose file was read in the parent, and over a sampler."""
    for source in (stored["hdf5"], Places()):
        dataset = InstanceDataset(source, augment=True)
        alone = items(dataset)
        assert same(alone, items(dataset, num_workers=2, multiprocessing_context="fork"))


def test_persistent_spawned_workers_hear_the_epoch(stored: dict[str, Path], layered: InstanceSampler) -> None:
    """Two spawned workers, over stored samples and over layers that each opens itself, live through three epochs."""
    parts = [InstanceDataset(stored["npy"], augment=True), InstanceDataset(layered, augment=True, size=SHAPE)]
    both = ConcatDataset(parts)
    loader = DataLoader(both, batch_size=1, num_workers=2, persistent_workers=True, multiprocessing_context="spawn")
    epochs = []
    for epoch in (0, 1, 0):
        for part in parts:
            part.set_epoch(epoch)
        together = [[part[0] for part in item] for item in loader]
        assert same(together, items(both))
        epochs.append(together)
    assert not same(epochs[0], epochs[1])
    assert same(epochs[0], epochs[2])


def test_tensorstore_in_a_forked_worker_is_refused_in_words(layered: InstanceSampler) -> None:
    """It would end the process without a reason."""
    with pytest.raises(InputError, match="forked worker"):
        items(InstanceDataset(layered), num_workers=1, multiprocessing_context="fork")


def test_resizing_keeps_positions() -> None:
    """A ramp stays the same ramp between voxel centres, and a mask's edge stays where it was."""
    ramp = torch.arange(8.0)[None, None].expand(4, 8, 8).contiguous()
    wider = resize_image(ramp, (4, 8, 16))
    expected = torch.clamp((torch.arange(16) + 0.5) / 2 - 0.5, 0, 7)
    assert torch.allclose(wider[0, 0], expected)
    mask = (ramp >= 4).float()[None]
    assert torch.equal(resize_masks(mask, (4, 8, 16))[0, 0, 0], (torch.arange(16) >= 8).float())
    assert torch.equal(resize_masks(mask, (4, 8, 4))[0, 0, 0], (torch.arange(4) >= 2).float())


@pytest.mark.parametrize(("size", "other"), [(9, 6), (6, 9), (9, 4), (4, 9), (5, 3), (7, 7)])
@pytest.mark.parametrize("axis", range(3))
def test_masks_take_the_nearest_voxel_between_centres(size: int, other: int, axis: int) -> None:
    """Voxel ``i`` of the new size lies at ``(i + 1/2) * old / new``, along each axis, in ratios that are not whole."""
    expected = [(2 * i + 1) * size // (2 * other) for i in range(other)]
    old, new = [size if a == axis else 3 for a in range(3)], [other if a == axis else 3 for a in range(3)]
    line = torch.zeros(size)
    line[expected[::2]] = 1
    masks = line.reshape([-1 if a == axis else 1 for a in range(3)]).expand(old)[None].contiguous()
    resized = resize_masks(masks, (new[0], new[1], new[2]))[0]
    assert torch.equal(resized.movedim(axis, 0)[:, 1, 1], line[expected])


def test_a_rescued_mask_is_not_displaced() -> None:
    """Where a slice would vanish along z, x still grows between voxel centres: 4 to 6."""
    masks = torch.zeros(2, 4, 3, 4)
    masks[0, 1, :, 1], masks[1, :, :, 1:3] = 1, 1
    assert not torch.nn.functional.interpolate(masks[None], size=(1, 3, 6), mode="nearest-exact")[0, 0].any()
    line = torch.tensor([(2 * i + 1) * 4 // 12 for i in range(6)])
    resized = resize_masks(masks, (1, 3, 6))
    assert torch.equal(resized[0, 0, 0], (line == 1).float())
    assert torch.equal(resized[1, 0, 0], ((line == 1) | (line == 2)).float())


def test_resized_items() -> None:
    """All three have the size asked for, the masks are still binary, and an equal size changes nothing."""
    inputs, target = InstanceDataset(Places(), size=(8, 9, 12))[0]
    assert inputs.shape == (2, 8, 9, 12)
    assert target.shape == (1, 8, 9, 12)
    assert set(target.unique().tolist()) == set(inputs[1].unique().tolist()) == {0.0, 1.0}
    assert same(items(InstanceDataset(Places(), size=SHAPE)), items(InstanceDataset(Places())))


def test_a_single_slice_survives_shrinking() -> None:
    """Whatever slice was kept, it is not lost when four slices become two, and it stays within the target."""
    for kept in range(4):
        masks = torch.zeros(2, 4, 6, 6)
        masks[0, kept, 1:3] = masks[1, :, 1:3] = 1
        smaller = resize_masks(masks, (2, 6, 6))
        assert smaller[0].any()
        assert bool((smaller[0] <= smaller[1]).all())


def test_a_rejected_row_is_raised_and_can_be_left_out_openly() -> None:
    """The data set does not shrink by itself; a scan tells which rows are left out, and why."""
    sampler = Places(without=(2, 5))
    dataset = InstanceDataset(sampler)
    assert len(dataset) == 6
    with pytest.raises(RejectedSample, match="no mask at row 2"):
        dataset[2]
    good, rejected = usable_indices(sampler)
    assert good == [0, 1, 3, 4]
    assert [(error.index, error.what) for error in rejected] == [(2, "no mask at row 2"), (5, "no mask at row 5")]
    assert len(items(InstanceDataset(sampler, indices=good))) == 4
    with pytest.raises(ConnectionResetError):
        usable_indices(Places(fails=(1,)))


@pytest.mark.parametrize("format", [Hdf5Format(), NpyFormat()], ids=["hdf5", "npy"])
def test_a_stored_data_set_holds_no_rejected_rows(tmp_path: Path, format: Any) -> None:
    """Its records name them, its items are the others; one that was rejected cannot be asked for."""
    sampler = Places(without=(0, 2, 5))
    execute(sampler, format, tmp_path / "out", workers=1)
    dataset = InstanceDataset(tmp_path / "out")
    assert list(dataset.indices) == [1, 3, 4]
    assert same(items(dataset), items(InstanceDataset(sampler, indices=[1, 3, 4])))
    with pytest.raises(InputError, match="no such samples"):
        InstanceDataset(tmp_path / "out", indices=[1, 2])


class Shuffled(Places):
    """Gives its samples as they are ready, in no order."""

    def stream(self, indices: Iterable[int]) -> Iterator[Any]:
        return super().stream(sorted(indices, key=lambda index: (index * 5 + 2) % 9))


def test_usable_indices_come_in_order_whatever_comes_first() -> None:
    """Samples and rejections are sorted by index, though the sampler gives them as they are ready."""
    sampler = Shuffled(length=9, without=(1, 4, 6))
    assert [getattr(outcome, "index", None) for outcome in sampler.stream(range(9))] != list(range(9))
    good, rejected = usable_indices(sampler)
    assert good == [0, 2, 3, 5, 7, 8]
    assert [error.index for error in rejected] == [1, 4, 6]


def test_pairs_from_hdf5_and_from_a_sampler(tmp_path: Path) -> None:
    """(1, I, J, K) views over 255, int64 labels, the same from both."""
    execute(Pairs(), Hdf5Format(), tmp_path, workers=1)
    view1, view2, seg = PairDataset(tmp_path)[3]
    assert view1.shape == view2.shape == seg.shape == (1, *SHAPE)
    assert (view1.dtype, seg.dtype) == (torch.float32, torch.int64)
    assert float(view1[0, 0, 0, 0]) == np.float32(3) / np.float32(255)
    assert float(view2[0, 0, 0, 0]) == np.float32(103) / np.float32(255)
    assert set(seg.unique().tolist()) == {203}
    assert same(items(PairDataset(tmp_path)), items(PairDataset(Pairs())))
    chosen = PairDataset(tmp_path, indices=[4, 1])
    assert [round(float(view[0, 0, 0, 0]) * 255) for view, _, _ in (chosen[0], chosen[1])] == [4, 1]
    with pytest.raises(InputError, match="another kind, without source"):
        InstanceDataset(tmp_path)[0]


def test_what_cannot_be_opened_is_told(tmp_path: Path, stored: dict[str, Path]) -> None:
    """No data set, one whose run has not ended, unknown indices, no indices, an impossible size."""
    with pytest.raises(InputError, match="no data set here"):
        InstanceDataset(tmp_path)
    execute(Places(), NpyFormat(), tmp_path, workers=1, only=range(2))
    with pytest.raises(InputError, match="no finished data set"):
        InstanceDataset(tmp_path)
    shutil.copytree(stored["npy"], tmp_path / "reopened")
    (tmp_path / "reopened" / "manifest.jsonl").unlink()  # as a repair does first; all records are still there
    with pytest.raises(InputError, match="no finished data set"):
        InstanceDataset(tmp_path / "reopened")
    with pytest.raises(InputError, match="no such samples"):
        InstanceDataset(stored["npy"], indices=[0, 6])
    with pytest.raises(InputError, match="no samples"):
        InstanceDataset(stored["npy"], indices=[])
    for size in ((0, 1, 1), (4, 4, 0), (4, 4), (1, 4, 4, 4), (-4, 4, 4)):
        with pytest.raises(RecipeError, match="impossible size"):
            InstanceDataset(stored["npy"], size=size)  # type: ignore[arg-type]


def test_without_torch_the_pip_command_is_named() -> None:
    """The import says which extra mends it."""
    code = "import sys; sys.modules['torch'] = None\nimport voxmint.torch"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'voxmint[torch]'" in result.stderr
