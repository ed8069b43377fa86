"""The check before a run: a wrong voxel size, swapped columns and layers that lie apart are refused in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from voxmint.errors import ChunkError, InputError
from voxmint.instances.draw.locate import check_overlap, check_table
from voxmint.instances.table.table import Instance
from voxmint.retry import FetchError
from voxmint.volumes.box import Box
from voxmint.volumes.layer import Layer
from voxmint.volumes.opening import open_layer

SIZE = (8.0, 8.0, 33.0)


def layer(array: np.ndarray, size: Any = SIZE, offset: Any = (0, 0, 0)) -> Layer:
    return open_layer(array, voxel_size_nm=size, offset=offset)


def labels(shape: Any = (200, 160, 60), offset: Any = (0, 0, 0), count: int = 60) -> tuple[Layer, np.ndarray]:
    """Return small labelled cubes at random places, and the absolute voxel of each one's centre."""
    rng = np.random.Generator(np.random.Philox(4))
    centres = rng.integers(3, np.array(shape) - 3, (count, 3))
    array = np.zeros(shape, np.uint32)
    for number, (x, y, z) in enumerate(centres.tolist()):
        array[x - 2 : x + 3, y - 2 : y + 3, z : z + 1] = number + 1
    return layer(array, offset=offset), centres + np.array(offset)


def instances(voxels: np.ndarray, size: Any, *, named: bool = False) -> list[Instance]:
    """Return instances as if read from a table of these coordinates with that voxel size."""
    nm = np.round(voxels * np.array(size), 6)
    return [Instance(i, i, tuple(p), target_id=i + 1 if named else None) for i, p in enumerate(nm.tolist())]


@pytest.mark.parametrize("offset", [(0, 0, 0), (1000, -50, 7)])
def test_a_right_table_passes(offset: Any) -> None:
    """All points hit at the stated voxel size, and nothing else is tried."""
    target, voxels = labels(offset=offset)
    report = check_table(instances(voxels, SIZE), target, SIZE)
    assert (report["hit_rate"], report["points"], report["outside"], report["alternatives"]) == (1.0, 48, 0, {})


@pytest.mark.parametrize("true", [(4, 4, 33), (16, 16, 40), (1, 1, 1), (4, 4, 40), (10, 10, 33)])
def test_a_wrong_voxel_size_is_refused_with_the_right_one(true: Any) -> None:
    """Coordinates in other units, nm among them, or in those of the source, are recognized."""
    target, voxels = labels()
    coordinates = voxels * np.array(SIZE) / np.array(true)
    source = layer(np.zeros((4, 4, 4), np.uint8), size=(10, 10, 33))
    with pytest.raises(InputError, match="your coordinates look like") as caught:
        check_table(instances(coordinates, SIZE), target, SIZE, source=source)
    size = "x".join(map(str, true))
    assert f"look like {size} nm, not 8x8x33 nm" in str(caught.value)
    assert f"{size} nm 100%" in str(caught.value)


@pytest.mark.parametrize("axes", ["zyx", "yxz", "xzy", "yzx", "zxy"])
def test_columns_in_another_order_are_recognized(axes: str) -> None:
    """A table whose x column holds z is refused with the order that fits."""
    target, voxels = labels()
    swapped = voxels[:, ["xyz".index(axis) for axis in axes]]
    with pytest.raises(InputError, match=f"look like 8x8x33 nm with columns in the order {axes}, not 8x8x33 nm"):
        check_table(instances(swapped, SIZE), target, SIZE)


def test_a_voxel_size_given_backwards_is_recognized() -> None:
    """(33, 8, 8) for a table in 8x8x33, its columns right or backwards too."""
    target, voxels = labels()
    with pytest.raises(InputError, match="look like 8x8x33 nm, not 33x8x8"):
        check_table(instances(voxels, (33, 8, 8)), target, (33, 8, 8))
    with pytest.raises(InputError, match="look like 8x8x33 nm with columns in the order zyx, not 33x8x8"):
        check_table(instances(voxels[:, ::-1], (33, 8, 8)), target, (33, 8, 8))


def test_coordinates_counted_from_the_first_voxel_are_recognized() -> None:
    """A table that ignores the layer's offset is told so."""
    target, voxels = labels(offset=(1000, 2000, 300))
    with pytest.raises(InputError, match="counted from the target's first voxel"):
        check_table(instances(voxels - np.array((1000, 2000, 300)), SIZE), target, SIZE)


def test_points_that_fit_nowhere_are_refused() -> None:
    """Random places in the volume: no alternative is named, but all rates are, and where both lie."""
    target, voxels = labels()
    elsewhere = np.random.Generator(np.random.Philox(8)).integers(0, 10**6, voxels.shape)
    with pytest.raises(InputError, match="none of the usual voxel sizes") as caught:
        check_table(instances(elsewhere, SIZE), target, SIZE)
    assert "48 lie outside" in str(caught.value)
    assert "the target x 0 to 1600, y 0 to 1280, z 0 to 1980 nm" in str(caught.value)


def test_some_misses_are_reported_not_refused() -> None:
    """A third of the points outside: passes with its rate, since nothing else fits better."""
    target, voxels = labels()
    voxels = voxels.copy()
    voxels[:48:3] += 10**6
    report = check_table(instances(voxels, SIZE), target, SIZE)
    assert (report["hit_rate"], report["outside"]) == (pytest.approx(2 / 3, abs=1e-3), 16)
    assert max(report["alternatives"].values()) < 0.6


def test_a_dense_segmentation_is_checked_by_the_ids_of_the_table() -> None:
    """Where every voxel has a label, the instance's own is looked for."""
    shape = (200, 160, 60)
    blocks = np.indices(shape)
    array = (1 + blocks[0] // 20 + 10 * (blocks[1] // 20) + 80 * (blocks[2] // 10)).astype(np.uint32)
    target = layer(array)
    number = np.arange(48)
    voxels = np.stack([number % 10 * 20 + 10, number // 10 * 20 + 10, np.full(48, 5)], axis=1)
    assert check_table(instances(voxels, SIZE, named=True), target, SIZE)["hit_rate"] == 1.0
    with pytest.raises(InputError, match="columns in the order yxz"):
        check_table(instances(voxels[:, [1, 0, 2]], SIZE, named=True), target, SIZE)


def test_no_instances_are_refused() -> None:
    """There is nothing to look up."""
    with pytest.raises(InputError, match="no instances"):
        check_table([], labels()[0], SIZE)


def test_layers_that_overlap_say_by_how_much() -> None:
    """Half of the target lies within the source."""
    source = layer(np.zeros((20, 20, 20), np.uint8), size=(4, 4, 33))
    target = layer(np.zeros((10, 10, 20), np.uint8), offset=(5, 0, 0))
    report = check_overlap(source, target)
    assert report["target_within_source"] == 0.5
    assert report["target_nm"] == [[40, 0, 0], [120, 80, 660]]


def test_layers_that_lie_apart_are_refused_with_both_bounds() -> None:
    """Layers that only touch share no voxel."""
    source = layer(np.zeros((20, 20, 20), np.uint8))
    target = layer(np.zeros((10, 10, 20), np.uint8), offset=(20, 0, 0))
    with pytest.raises(InputError, match="do not overlap") as caught:
        check_overlap(source, target)
    assert "source x 0 to 160" in str(caught.value)
    assert "target x 160 to 240" in str(caught.value)


@pytest.mark.parametrize("lost", ["one", "all"])
def test_chunks_that_cannot_be_read_are_no_misses(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside others they are counted and left out; where there are no others, the chunk is what is wrong."""
    target, voxels = labels((300, 160, 60), count=30)
    fetch = type(target).fetch  # type: ignore[attr-defined]
    last = max(chunk.start for chunk in target.chunks_of(target.bounds))

    def broken(self: Any, chunk: Box) -> Any:
        if lost == "all" or chunk.start == last:
            raise FetchError("missing", "it is gone")
        return fetch(self, chunk)

    monkeypatch.setattr(type(target), "fetch", broken)
    if lost == "all":
        with pytest.raises(ChunkError, match="it is gone"):
            check_table(instances(voxels, SIZE), target, SIZE)
    else:
        report = check_table(instances(voxels, SIZE), target, SIZE)
        assert 0 < report["unreadable"] < 15
        assert report["hit_rate"] == 1


def test_a_little_better_is_no_reason_to_refuse() -> None:
    """Where almost everything is labelled, another unit hits as well: the one that was stated counts."""
    voxels = np.random.Generator(np.random.Philox(4)).integers((20, 20, 5), (180, 140, 55), (48, 3))
    array = np.ones((200, 160, 60), np.uint32)
    for x, y, z in voxels[:10].tolist():
        array[x - 8 : x + 9, y - 8 : y + 9, z - 3 : z + 4] = 0
    report = check_table(instances(voxels, SIZE), layer(array), SIZE)
    assert 0.5 < report["hit_rate"] < 0.85
    assert max(report["alternatives"].values()) > report["hit_rate"]
