"""Splits: no voxel and no neuron in two of them, the same for the same seed, and a report that proves it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxmint.errors import InputError, RecipeError
from voxmint.instances.draw.overlap import overlap_report
from voxmint.instances.draw.splits import SplitRecipe, Splits, assign_splits
from voxmint.instances.table.table import Instance

COUNTS = ("overlapping_crops", "shared_neurons", "shared_ids")
CROP = np.array([1_000.0, 1_000.0, 500.0])


def scattered(count: int, side: float = 20_000.0, neurons: int = 0, seed: int = 1) -> list[Instance]:
    """Return instances at random places; with ``neurons``, each runs through a part of the volume."""
    rng = np.random.Generator(np.random.Philox(seed))
    points = np.round(rng.random((count, 3)) * side, 3)
    near = (points[:, 0] / side * max(neurons, 1)).astype(int)
    pairs = near[:, None] + rng.integers(1, 4, (count, 2)) if neurons else np.zeros((count, 2), int)
    return [
        Instance(i, i, tuple(p), None, None, int(a) or None, int(b) or None)  # type: ignore[arg-type]
        for i, (p, (a, b)) in enumerate(zip(points.tolist(), pairs, strict=True))
    ]


def crops_of(instances: list[Instance], size: np.ndarray = CROP) -> np.ndarray:
    centres = np.array([i.centre_nm for i in instances])
    return np.stack([centres - size / 2, centres + size / 2], axis=1)


def split(instances: list[Instance], seed: int = 3, size: np.ndarray = CROP, **recipe: Any) -> Splits:
    return assign_splits(instances, crops_of(instances, size), SplitRecipe(**recipe), seed)


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return for all pairs whether two boxes share a point, the plain way."""
    low = np.maximum(first[:, None, 0], second[None, :, 0])
    return (np.minimum(first[:, None, 1], second[None, :, 1]) > low).all(axis=2)


@pytest.mark.hypothesis
def test_no_voxel_and_no_neuron_is_in_two_splits() -> None:
    """Checked pair by pair, for a single cut and for blocks larger and smaller than a crop."""
    divided = []

    @settings(max_examples=40, deadline=None)
    @given(
        count=st.integers(30, 150),
        neurons=st.sampled_from([0, 40]),
        seed=st.integers(0, 10**6),
        block=st.sampled_from([None, (4_000.0, 4_000.0, 4_000.0), (2_500.0, 9_000.0, 30_000.0), (700.0, 800.0, 900.0)]),
        shares=st.sampled_from([{"train": 0.8, "validation": 0.2}, {"train": 6, "validation": 2, "test": 2}]),
    )
    def divide(count: int, neurons: int, seed: int, block: Any, shares: Any) -> None:
        instances = scattered(count, neurons=neurons, seed=seed)
        try:
            result = split(instances, seed, block_nm=block, shares=shares)
        except InputError as error:
            assert "no instance is left for" in str(error)  # noqa: PT017  # which has its own test
            divided.append(False)
            return
        assert_disjoint(instances, result, list(shares))
        divided.append(True)

    divide()
    assert sum(divided) >= 20


def assert_disjoint(instances: list[Instance], result: Splits, shares: list[str]) -> None:
    """Check the splits pair by pair, and that the report says so and accounts for every instance."""
    crops = crops_of(instances)
    for a in shares:
        for b in set(shares) - {a}:
            of_a, of_b = ([i for i, name in enumerate(result.names) if name == split] for split in (a, b))
            assert not overlaps(crops[of_a], crops[of_b]).any()
            ids = [
                {n for i in of for n in (instances[i].pre_neuron_id, instances[i].post_neuron_id)}
                for of in (of_a, of_b)
            ]
            assert ids[0] & ids[1] <= {None}
    report = result.report
    assert report["overlap"]["disjoint"]
    assert report["overlap"]["neurons_disjoint"]
    assert sum(report["counts"].values()) + sum(report["left_out"].values()) == len(instances)
    assert json.loads(json.dumps(report)) == report


@pytest.mark.parametrize("block", [None, (5_000, 5_000, 5_000)])
def test_shares_are_met_and_few_are_lost(block: Any) -> None:
    """Of 3,000 instances with crops of 1/20 of the volume, validation gets a fifth, within 6 per cent.

    A little less with blocks: those of the smaller split have more neighbours of the other.
    """
    result = split(scattered(3_000), block_nm=block)
    counts, lost = result.report["counts"], sum(result.report["left_out"].values())
    assert counts["validation"] / (3_000 - lost) == pytest.approx(0.2, abs=0.06)
    assert lost < (200 if block is None else 1_200)


def test_as_many_blocks_as_splits_leave_none_empty() -> None:
    """The last block goes to a split that has none, however small its share."""
    instances = [Instance(n, n, (5_000.0 + 10_000 * n, 5_000.0, 5_000.0)) for n in range(2)]
    result = split(instances, block_nm=(10_000, 10_000, 10_000), shares={"a": 0.98, "b": 0.02})
    assert set(result.names) == {"a", "b"}


def test_the_split_depends_on_the_seed_alone() -> None:
    """The same for any order of the instances, another for another seed."""
    instances = scattered(500, neurons=60)
    order = np.random.Generator(np.random.Philox(2)).permutation(500)
    for block in (None, (5_000, 5_000, 5_000)):
        names = split(instances, block_nm=block).names
        assert split(instances, block_nm=block).names == names
        shuffled = split([instances[i] for i in order], block_nm=block).names
        assert [names[i] for i in order] == list(shuffled)
        assert any(split(instances, seed, block_nm=block).names != names for seed in range(4, 9))


def test_which_end_is_held_out_is_drawn() -> None:
    """A single cut holds out the low end for some seeds and the high end for others."""
    instances = scattered(200)
    ends = set()
    for seed in range(12):
        names = split(instances, seed).names
        x = [
            np.mean([i.centre_nm for i, n in zip(instances, names, strict=True) if n == s], 0)
            for s in ("train", "validation")
        ]
        ends.add(bool((x[0] - x[1])[np.argmax(np.abs(x[0] - x[1]))] > 0))
    assert ends == {True, False}


def test_a_volume_of_a_few_crops_can_still_be_split() -> None:
    """A cube 2.5 crops wide gives both splits, by the single cut that loses fewest."""
    result = split(scattered(400, side=2_560.0), size=np.array([1_280.0, 1_280.0, 160.0]))
    assert result.report["counts"]["validation"] > 40
    assert result.report["left_out"]["crop in two splits"] < 80


THREE = {"train": 0.6, "validation": 0.2, "test": 0.2}
BLOCKS: dict[str, Any] = {"block_nm": (4_000.0, 4_000.0, 4_000.0), "shares": THREE}


def with_neurons(instances: list[Instance], side: str, neurons: list[int | None]) -> list[Instance]:
    """Return instances whose pre or post neurons are these, and which know of no other."""
    return [replace(i, **{f"{side}_neuron_id": n}) for i, n in zip(instances, neurons, strict=True)]


@pytest.mark.parametrize("side", ["pre", "post"])
def test_a_neuron_of_one_split_costs_nothing_on_either_side(side: str) -> None:
    """Each split has one neuron of its own, pre or post, with no partner: no instance is left out."""
    instances = scattered(120, side=16_000.0)
    names = split(instances, **BLOCKS).names
    assert set(names) >= set(THREE)
    own = {name: number for number, name in enumerate(THREE, 1)}
    neurons = [None if name is None else own[name] for name in names]
    assert split(with_neurons(instances, side, neurons), **BLOCKS).names == names


@pytest.mark.parametrize(("pre", "post"), [("pre", "pre"), ("post", "post"), ("pre", "post"), ("post", "pre")])
@pytest.mark.parametrize(("many", "few", "winner"), [(4, 1, "train"), (4, 2, "validation"), (3, 3, "validation")])
def test_a_neuron_goes_where_most_of_it_lies(pre: str, post: str, many: int, few: int, winner: str) -> None:
    """Votes count relative to the shares, of both sides alike; the instances elsewhere are left out, no others."""
    instances = scattered(120, side=16_000.0)
    names = split(instances, **BLOCKS).names
    of = {name: [i for i, one in enumerate(names) if one == name] for name in THREE}
    chosen = {"train": of["train"][:many], "validation": of["validation"][:few]}
    marked = list(instances)
    for name, key in (("train", pre), ("validation", post)):
        for i in chosen[name]:
            marked[i] = replace(marked[i], **{f"{key}_neuron_id": 7})
    lost = chosen["validation" if winner == "train" else "train"]
    result = split(marked, **BLOCKS)
    assert list(result.names) == [None if i in lost else name for i, name in enumerate(names)]
    assert result.report["left_out"]["neuron in two splits"] == len(lost)
    assert result.report["overlap"]["neurons_disjoint"]


@pytest.mark.parametrize("pair", [("train", "validation"), ("train", "test"), ("test", "validation")])
@pytest.mark.parametrize("shared", ["pre", "post", "id", "crop", None])
def test_with_three_splits_any_pair_can_spoil_the_report(pair: tuple[str, str], shared: str | None) -> None:
    """A neuron, an id or a place that two of three splits share is told, whichever two they are."""
    instances = {name: Instance(n, n, (n * 9_000.0, 0.0, 0.0)) for n, name in enumerate(THREE)}
    first, second = pair
    for key, name in (("pre" if shared == "pre" else "post", first), ("post", second)):
        if shared in ("pre", "post"):
            instances[name] = replace(instances[name], **{f"{key}_neuron_id": 5})
    if shared == "id":
        instances[second] = replace(instances[second], id=instances[first].id)
    if shared == "crop":
        instances[second] = replace(instances[second], centre_nm=instances[first].centre_nm)
    rows = list(instances.values())
    report = overlap_report(list(instances), rows, crops_of(rows))
    assert report["neurons_disjoint"] == (shared not in ("pre", "post"))
    assert report["disjoint"] == (shared not in ("id", "crop"))
    assert len(report["pairs"]) == 3
    spoilt = [name for name, counts in report["pairs"].items() if any(counts[key] for key in COUNTS)]
    assert spoilt == ([f"{min(pair)} / {max(pair)}"] if shared else [])


def test_neurons_may_be_shared_on_request() -> None:
    """With separate: blocks nothing is lost to neurons, and the report counts the shared ones."""
    instances = scattered(600, neurons=5)
    strict, loose = split(instances), split(instances, separate="blocks")
    assert strict.report["left_out"]["neuron in two splits"] > 0
    assert strict.report["overlap"]["neurons_disjoint"]
    assert loose.report["left_out"]["neuron in two splits"] == 0
    assert not loose.report["overlap"]["neurons_disjoint"]
    assert loose.report["overlap"]["disjoint"]


def test_crops_that_touch_a_cut_exactly_are_kept() -> None:
    """A crop that ends where the next block begins shares no voxel with it."""
    instances = [Instance(i, i, (x, 500.0, 500.0)) for i, x in enumerate((500.0, 1_500.0))]
    result = split(instances, size=np.full(3, 1_000.0), block_nm=(1_000, 10_000, 10_000), shares={"a": 1, "b": 1})
    assert sorted(result.names, key=str) == ["a", "b"]
    assert result.report["overlap"]["pairs"]["a / b"]["smallest_distance_nm"] == 0


def test_an_empty_split_is_refused_with_sizes() -> None:
    """All crops cross: the error says what was left out and how large crop and volume are."""
    with pytest.raises(InputError, match="no instance is left for") as caught:
        split(scattered(50, side=400.0))
    assert "crop in two splits" in str(caught.value)
    assert "1000" in str(caught.value)
    with pytest.raises(InputError, match="no instance is left"):
        split([Instance(0, 0, (1.0, 1.0, 1.0))])
    with pytest.raises(InputError, match="no instance is left"):
        assign_splits([], np.zeros((0, 2, 3)), SplitRecipe(), 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(0, 10**6), st.sampled_from([500.0, 5_000.0, 50_000.0]))
def test_the_report_sees_every_overlap(count: int, seed: int, side: float) -> None:
    """For splits at random, overlapping crops, smallest distance, and shared neurons are those of all pairs."""
    instances = scattered(count, side=side, neurons=6, seed=seed)
    rng = np.random.Generator(np.random.Philox(seed))
    crops = crops_of(instances)
    crops[:, 1] += rng.integers(0, 900, (count, 3))
    names = ["train", "validation", *np.array(["train", "validation"])[rng.integers(0, 2, count - 2)].tolist()]
    pair = overlap_report(names, instances, crops)["pairs"]["train / validation"]
    first, second = (crops[[name == s for name in names]] for s in ("train", "validation"))
    gap = np.maximum(first[:, None, 0] - second[None, :, 1], second[None, :, 0] - first[:, None, 1]).clip(0)
    assert pair["overlapping_crops"] == overlaps(first, second).sum()
    assert pair["smallest_distance_nm"] == pytest.approx(np.sqrt((gap**2).sum(axis=2)).min(), abs=1e-5)
    neurons = [
        {n for i, name in zip(instances, names, strict=True) if name == s for n in (i.pre_neuron_id, i.post_neuron_id)}
        for s in ("train", "validation")
    ]
    assert pair["shared_neurons"] == len(neurons[0] & neurons[1])


def test_the_report_is_not_disjoint_when_crops_overlap() -> None:
    """Two crops at one place in two splits are told, and an instance that is in both."""
    instances = [Instance(1, 0, (0.0, 0.0, 0.0)), Instance(1, 1, (10.0, 0.0, 0.0))]
    report = overlap_report(["train", "test"], instances, crops_of(instances))
    assert not report["disjoint"]
    assert report["pairs"]["test / train"] == {
        **{"overlapping_crops": 1, "smallest_distance_nm": 0.0, "shared_neurons": 0, "shared_ids": 1}
    }


def test_many_crops_are_compared_in_seconds() -> None:
    """The proof does not compare all pairs: 10,000 dense crops well within the suite's time."""
    instances = scattered(10_000, side=50_000.0)
    result = split(instances, block_nm=(10_000, 10_000, 10_000))
    assert result.report["overlap"]["disjoint"]


@pytest.mark.parametrize("recipe", [{"shares": {"train": 1}}, {"shares": {"a": 1, "b": -1}}, {"block_nm": (0, 1, 1)}])
def test_bad_recipes_are_refused(recipe: dict[str, Any]) -> None:
    """One split, a negative share, and a block without size."""
    with pytest.raises(RecipeError):
        SplitRecipe(**recipe)
