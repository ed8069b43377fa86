"""Which object is the instance: by id, by where its points lie, by distance in nm; and when there is none."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_crops import Volume, sampler
from scipy import ndimage

from voxmint.errors import RejectedSample
from voxmint.instances.cut.target import choose, component_at
from voxmint.instances.draw.settle import settled
from voxmint.instances.recipe import ChoiceRecipe, InstanceRecipe
from voxmint.instances.table.table import Instance
from voxmint.volumes.box import Box
from voxmint.volumes.opening import open_layer

SIZE = (8, 8, 33)


def labels_of(shape: tuple[int, int, int], **blocks: tuple[slice, ...]) -> Any:
    """Return labels (z, y, x); ``n7=...`` sets label 7."""
    labels = np.zeros(shape, np.uint64)
    for name, where in blocks.items():
        labels[where] = int(name.rstrip("abc")[1:])
    return labels


def found(labels: Any, row: Instance, size: Any = SIZE, start: Any = (0, 0, 0), **choice: Any) -> tuple[Any, Any]:
    """Choose within the whole of ``labels``; return the choice and its mask over all of it."""
    box = Box.at(start, labels.shape[::-1])
    chosen = choose(labels, box, size, row, ChoiceRecipe(**choice))
    mask = np.zeros(labels.shape, bool)
    mask[chosen.box.slices(box)[::-1]] = chosen.mask
    assert chosen.voxels == mask.sum()
    return chosen, mask


def at(x: float, y: float, z: float, size: Any = SIZE, **more: Any) -> Instance:
    """Return a row whose centre is a voxel."""
    return Instance(1, 0, (x * size[0], y * size[1], z * size[2]), **more)


def test_touching_instances_of_different_ids_stay_apart() -> None:
    """Two boxes that share a face: only the one under the centre is kept."""
    labels = labels_of((8, 16, 16), n4=np.s_[2:6, 4:8, 2:8], n5=np.s_[2:6, 4:8, 8:14])
    chosen, mask = found(labels, at(9, 5, 3))
    assert np.array_equal(mask, labels == 5)
    assert (chosen.label, chosen.by, chosen.distance_nm) == (5, "component", 0.0)


def test_components_are_joined_over_corners() -> None:
    """Voxels that meet at a corner alone are one component at 26 neighbours, and two at 6."""
    labels = labels_of((4, 4, 4), n1a=np.s_[0:2, 0:2, 0:2], n1b=np.s_[2:4, 2:4, 2:4])
    assert found(labels, at(0, 0, 0))[1].sum() == 16
    assert found(labels, at(0, 0, 0), connectivity=6)[1].sum() == 8
    assert found(labels, at(0, 0, 0), connectivity=18)[1].sum() == 8


def test_an_id_of_two_pieces_is_whole_by_id_and_one_piece_by_component() -> None:
    """``id`` says that the target's ids name instances; otherwise the piece at the centre is the instance."""
    labels = labels_of((8, 16, 16), n6a=np.s_[2:4, 2:4, 2:4], n6b=np.s_[5:7, 10:14, 10:14])
    assert found(labels, at(3, 3, 3), by="id")[1].sum() == (labels == 6).sum()
    assert found(labels, at(3, 3, 3), by="auto")[1].sum() == 8
    assert found(labels, at(3, 3, 3), by="nearest")[1].sum() == 8


def test_the_tables_id_wins_over_what_is_at_the_centre() -> None:
    """The row names 6 while 4 lies at its centre: 6 is taken, and its distance told; ``nearest`` does not listen."""
    labels = labels_of((8, 16, 16), n4=np.s_[2:5, 2:5, 2:5], n6=np.s_[2:5, 2:5, 8:12])
    chosen, mask = found(labels, at(3, 3, 3, target_id=6))
    assert np.array_equal(mask, labels == 6)
    assert (chosen.by, chosen.distance_nm) == ("table id", 40.0)
    assert found(labels, at(3, 3, 3, target_id=6), by="nearest")[0].label == 4


@pytest.mark.parametrize("base", [2**60, 2**63])
@pytest.mark.parametrize("named", [0, 1, None])
@pytest.mark.parametrize("by", ["auto", "id", "nearest"])
def test_ids_that_floats_cannot_tell_apart_stay_apart(base: int, named: int | None, by: str) -> None:
    """An id and the next one touch: whether named by the row or found, only one of both is the instance."""
    labels = np.zeros((6, 12, 12), np.uint64)
    labels[1:4, 2:6, 2:6], labels[1:4, 2:6, 6:10] = base, base + 1
    row = at(4 if named != 1 else 8, 4, 2, target_id=None if named is None else base + named)
    chosen, mask = found(labels, row, by=by)
    expected = base + (named or 0)
    assert chosen.label == expected
    assert np.array_equal(mask, labels == np.uint64(expected))
    away = at(8, 4, 2, target_id=base)
    assert found(labels, away, by="id")[0].label == base
    with pytest.raises(RejectedSample, match=f"id {base + 2}, .* not in the crop"):
        found(labels, at(8, 4, 2, target_id=base + 2), by="id")


def test_near_means_nm_not_voxels() -> None:
    """One slice away (33 nm) is further than three voxels in plane (24 nm)."""
    labels = labels_of((8, 16, 16), n1=np.s_[4:5, 8:9, 8:9], n2=np.s_[3:4, 8:9, 11:12])
    chosen, _ = found(labels, at(8, 8, 3))
    assert (chosen.label, chosen.distance_nm) == (2, 24.0)


def test_a_centre_between_objects_is_not_pulled_to_lower_voxels() -> None:
    """A table names voxels by their corners; measured from there, the voxel below would be as near as it."""
    labels = labels_of((3, 3, 9), n1=np.s_[1:2, 1:2, 2:3], n2=np.s_[1:2, 1:2, 5:6])
    chosen, _ = found(labels, at(4, 1, 1))
    assert (chosen.label, chosen.distance_nm) == (2, 8.0)


def test_the_segment_between_pre_and_post_finds_what_the_centre_misses() -> None:
    """With the centre near object 1 but the segment through object 2, ``segment`` takes 2."""
    labels = labels_of((4, 32, 32), n1=np.s_[1:2, 4:6, 4:6], n2=np.s_[1:2, 20:22, 10:20])
    row = Instance(1, 0, (48.0, 64.0, 33.0), (48.0, 200.0, 33.0), (200.0, 136.0, 33.0))
    assert found(labels, row)[0].label == 1
    assert found(labels, row, nearest_to="segment")[0].label == 2
    with pytest.raises(RejectedSample, match="pre and post"):
        found(labels, at(8, 8, 1), nearest_to="segment")


def test_distance_to_a_segment_ends_at_its_ends() -> None:
    """An object beyond the post point counts from that point, not from the endless line."""
    labels = labels_of((4, 8, 40), n1=np.s_[1:2, 4:5, 30:31])
    row = Instance(1, 0, (64.0, 32.0, 33.0), (40.0, 32.0, 33.0), (120.0, 32.0, 33.0))
    assert found(labels, row, nearest_to="segment")[0].distance_nm == 120.0


@pytest.mark.parametrize(
    ("blocks", "row", "reason"),
    [
        ({}, at(8, 8, 3), "there is no mask in the crop"),
        ({"n1": np.s_[3:4, 8:9, 0:2]}, at(14, 8, 3), "no mask lies within 50 nm of the centre"),
        ({"n1": np.s_[3:4, 8:9, 8:9]}, at(8, 8, 3, target_id=2), "id 2, which the row names, is not in the crop"),
        ({"n1": np.s_[3:4, 8:9, 0:2]}, at(14, 8, 3, target_id=1), "id 1, which .* not lie within 50 nm"),
    ],
)
def test_no_instance_is_a_rejection_in_words(blocks: Any, row: Instance, reason: str) -> None:
    """Never an empty sample."""
    with pytest.raises(RejectedSample, match=reason):
        found(labels_of((8, 16, 16), **blocks), row, max_distance_nm=50)


def test_the_stated_distance_is_included() -> None:
    """Exactly as far as stated is near enough; a nanometre less is not."""
    labels = labels_of((8, 16, 16), n1=np.s_[3:4, 8:9, 3:4])
    assert found(labels, at(8, 8, 3), max_distance_nm=40)[0].distance_nm == 40
    with pytest.raises(RejectedSample):
        found(labels, at(8, 8, 3), max_distance_nm=39)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint64, np.bool_])
def test_any_type_of_label_will_do(dtype: Any) -> None:
    """An id of the table that the type cannot hold is absent, not an error."""
    labels = labels_of((4, 8, 8), n1=np.s_[1:3, 2:4, 2:4]).astype(dtype)
    assert found(labels, at(3, 3, 2))[1].sum() == 8
    with pytest.raises(RejectedSample, match="not in the crop"):
        found(labels, at(3, 3, 2, target_id=2**40))


@pytest.mark.parametrize("corner", [(0, 0, 0), (39, 0, 9), (0, 39, 0), (39, 39, 9)])
def test_at_a_border_the_instance_under_the_centre_is_chosen(corner: tuple[int, int, int]) -> None:
    """The published code took what lies in the middle of the cut array: at a border, another object."""
    labels = np.zeros((40, 40, 10), np.uint32)
    labels[tuple(slice(max(0, c - 2), c + 3) for c in corner)] = 3
    middle = [min(max(c, 6), n - 7) for c, n in zip(corner, labels.shape, strict=True)]
    decoy = tuple(slice(m - 2, m + 3) for m in middle[:2])
    labels[decoy][labels[decoy] == 0] = 8
    source = Volume(np.zeros((40, 40, 10), np.uint8), SIZE)
    row = Instance(1, 0, tuple(float(c * n) for c, n in zip(corner, SIZE, strict=True)))
    sample = sampler(InstanceRecipe(crop_vx=(24, 24, 8)), source, Volume(labels, SIZE), row)[0]
    assert sample.record["component"]["id"] == 3
    assert sample.arrays["target"].sum() == (labels == 3).sum()


def test_pieces_joined_beyond_the_crop_count_as_one_with_context() -> None:
    """A horseshoe whose bend lies outside the crop is two pieces, until context is read."""
    labels = np.zeros((32, 32, 8), np.uint8)
    labels[4:26, 10, 3:5] = labels[4:26, 18, 3:5] = labels[25, 10:19, 3:5] = 1
    source, target = Volume(np.zeros((32, 32, 8), np.uint8), SIZE), Volume(labels, SIZE)
    row = Instance(1, 0, (96.0, 80.0, 132.0))
    counts = []
    for context in ((0, 0, 0), (10, 0, 0)):
        recipe = InstanceRecipe(crop_vx=(20, 20, 8), choice=ChoiceRecipe(context_vx=context))
        counts.append(int(sampler(recipe, source, target, row)[0].arrays["target"].sum()))
    assert counts == [18 * 2, 18 * 2 * 2]


def test_an_instance_outside_the_crop_but_in_its_context_is_rejected() -> None:
    """Context helps to choose; what is chosen must show."""
    labels = np.zeros((32, 32, 8), np.uint8)
    labels[20:24, 8:12, 3:5] = 1
    source, target = Volume(np.zeros((32, 32, 8), np.uint8), SIZE), Volume(labels, SIZE)
    recipe = InstanceRecipe(crop_vx=(8, 8, 4), choice=ChoiceRecipe(context_vx=(12, 0, 0)))
    with pytest.raises(RejectedSample, match="outside the crop"):
        sampler(recipe, source, target, Instance(1, 0, (96.0, 80.0, 132.0)))[0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([6, 18, 26]), st.floats(0.05, 0.6))
def test_a_component_is_what_labelling_everything_gives(word: int, connectivity: int, density: float) -> None:
    """The window that is doubled finds the same component as labelling the whole volume."""
    random = np.random.Generator(np.random.Philox(word))
    labels = (random.random((20, 60, 64)) < density).astype(np.uint8) * random.integers(1, 3, (20, 60, 64), np.uint8)
    at = tuple(int(n) for n in random.integers(0, labels.shape))
    labels[at] = 1
    structure = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    parts, _ = ndimage.label(labels == 1, structure)
    mask, origin = component_at(labels, at, connectivity)
    whole = np.zeros(labels.shape, bool)
    whole[tuple(slice(o, o + n) for o, n in zip(origin, mask.shape, strict=True))] = mask
    assert np.array_equal(whole, parts == parts[at])


@pytest.mark.hypothesis
def test_the_nearest_is_what_measuring_everything_gives() -> None:
    """Plain distances from every voxel to the points agree, and decide between choosing and rejecting."""
    outcomes = []

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**32), st.booleans(), st.integers(10, 400))
    def measure(word: int, segment: bool, limit: int) -> None:
        outcomes.append(compare_nearest(word, segment, limit))

    measure()
    assert outcomes.count("chosen") >= 15
    assert outcomes.count("rejected") >= 8
    assert outcomes.count("on the limit") < 10


def compare_nearest(word: int, segment: bool, limit: int) -> str:
    """Choose among random voxels, compare with what measuring everything says, and return which it was."""
    random = np.random.Generator(np.random.Philox(word))
    labels = (random.random((6, 20, 20)) < 0.004).astype(np.uint64) * random.integers(1, 90, (6, 20, 20), np.uint64)
    start, size = (100, -4, 7), (8.0, 6.0, 33.0)
    centre, pre, post = (random.integers(0, (20, 20, 6)) + start for _ in range(3))
    row = Instance(1, 0, *(tuple((p * size).tolist()) for p in (centre, pre, post)))
    a, b = (pre * size, post * size) if segment else (centre * size, centre * size)
    distances = {}
    for z, y, x in zip(*np.nonzero(labels), strict=True):
        p = (np.array([x, y, z]) + start) * size
        t = np.clip(np.dot(p - a, b - a) / max(np.dot(b - a, b - a), 1e-9), 0, 1)
        distances[int(z), int(y), int(x)] = sqrt(((p - a - t * (b - a)) ** 2).sum())
    nearest = min(distances.values(), default=float("inf"))
    choice = {"nearest_to": "segment" if segment else "centre", "max_distance_nm": limit}
    if nearest > limit + 1e-6:
        with pytest.raises(RejectedSample):
            found(labels, row, size, start, **choice)
        return "rejected"
    if nearest < limit - 1e-6:
        chosen, mask = found(labels, row, size, start, **choice)
        assert chosen.distance_nm == pytest.approx(nearest, abs=1e-6)
        assert min(distances[tuple(int(n) for n in at)] for at in np.argwhere(mask)) == pytest.approx(nearest, abs=1e-6)
        return "chosen"
    return "on the limit"


def rows_on_a_grid(count: int) -> list[Instance]:
    """Return rows at every fifth voxel along x."""
    return [at(5 * n + 2, 2, 2) for n in range(count)]


def test_a_target_with_an_id_per_instance_is_settled_by_id() -> None:
    """Twelve rows find twelve ids: ids name instances. With two ids in all, or too few rows, they may not."""
    ids = np.zeros((60, 6, 6), np.uint64)
    kinds = np.zeros((60, 6, 6), np.uint64)
    for n in range(12):
        ids[5 * n : 5 * n + 4, 1:4, 1:4] = 1000 + n
        kinds[5 * n : 5 * n + 4, 1:4, 1:4] = 1 + n % 2
    recipe = InstanceRecipe()
    assert settled(recipe, Volume(ids, SIZE).layer(), rows_on_a_grid(12)).choice.by == "id"
    assert settled(recipe, Volume(kinds, SIZE).layer(), rows_on_a_grid(12)) == recipe
    assert settled(recipe, Volume(ids, SIZE).layer(), rows_on_a_grid(7)) == recipe
    fixed = InstanceRecipe(choice=ChoiceRecipe(by="nearest"))
    assert settled(fixed, Volume(ids, SIZE).layer(), rows_on_a_grid(12)) == fixed


@pytest.mark.parametrize(
    ("hits", "ids", "misses", "by"),
    [(12, 12, 12, "id"), (8, 8, 0, "id"), (8, 8, 40, "id"), (7, 7, 7, "auto"), (10, 9, 10, "id"), (10, 8, 10, "auto")],
)
def test_centres_on_background_prove_nothing(hits: int, ids: int, misses: int, by: str) -> None:
    """Eight hits or more, 90 % of them distinct, decide; rows that find background count neither way."""
    labels = np.zeros((5 * (hits + misses), 6, 6), np.uint64)
    for n in range(hits):
        labels[5 * n : 5 * n + 4, 1:4, 1:4] = 1000 + n % ids
    recipe = settled(InstanceRecipe(), Volume(labels, SIZE).layer(), rows_on_a_grid(hits + misses))
    assert recipe.choice.by == by


def test_rows_are_looked_up_evenly_spread() -> None:
    """Of 640 rows the first 64 lie in one object and all others in one each: it is not the first that decide."""
    labels = np.zeros((5 * 640, 6, 6), np.uint64)
    for n in range(640):
        labels[5 * n : 5 * n + 4, 1:4, 1:4] = 1 + max(0, n - 63)
    layer = Volume(labels, SIZE).layer()
    assert settled(InstanceRecipe(), layer, rows_on_a_grid(64)).choice.by == "auto"
    assert settled(InstanceRecipe(), layer, rows_on_a_grid(640)).choice.by == "id"


def test_rows_whose_chunk_is_missing_do_not_count(tmp_path: Path) -> None:
    """Nine rows find nine ids, three more lie in chunks that were never written: settled, and no error."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        ids = file.create_dataset("ids", (6, 6, 60), np.uint64, chunks=(6, 6, 5))
        for n in range(9):
            ids[:, :, 5 * n : 5 * n + 5] = 1000 + n
    layer = open_layer(tmp_path / "a.h5", dataset="ids", voxel_size_nm=SIZE)
    assert settled(InstanceRecipe(), layer, rows_on_a_grid(12)).choice.by == "id"
    assert settled(InstanceRecipe(), layer, rows_on_a_grid(12)[2:]).choice.by == "auto"
    layer.close()
