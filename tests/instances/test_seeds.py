"""The seed models against plain versions drawn with another generator, and the promises they must keep."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxmint.errors import RejectedSample
from voxmint.instances.cut.seeds import exponential, keep_slices, normal
from voxmint.instances.recipe import FewRecipe, SeedRecipe
from voxmint.randomness import Stream

DRAWS = 2500


def kept(model: str, count: int) -> list[list[int]]:
    recipe = SeedRecipe(model=model)
    return [keep_slices(Stream(11, "seeds", n), recipe, count) for n in range(DRAWS)]


def plain_few(random: np.random.Generator, count: int) -> list[int]:
    """The published model over ``count`` slices, as its text says."""
    sizes = np.arange(1, min(3, count) + 1)
    weights = np.exp(-((sizes - 1) ** 2) / 2)
    k = random.choice(sizes, p=weights / weights.sum())
    z = np.arange(count)
    weights = np.exp(-((z - (count - 1) / 2) ** 2) / (2 * (count / 6) ** 2))
    return sorted(random.choice(z, k, replace=False, p=weights / weights.sum()).tolist())


def plain_spread(random: np.random.Generator, count: int) -> list[int]:
    """The published model over ``count`` slices, but never without any."""
    draws = max(1, min(int(np.floor(random.exponential(count))), count - 1))
    positions = np.floor(random.normal(count / 2, count / 4, draws))
    return sorted(set(np.clip(positions, 0, count - 1).astype(int).tolist()))


def frequencies(samples: list[list[int]], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each number of slices and each slice was kept."""
    sizes, slices = Counter(map(len, samples)), Counter(n for sample in samples for n in sample)
    return (
        np.array([sizes[k] for k in range(count + 1)]) / len(samples),
        np.array([slices[z] for z in range(count)]) / len(samples),
    )


@pytest.mark.parametrize("count", [1, 2, 9, 16])
@pytest.mark.parametrize("model", ["few", "spread"])
def test_the_models_are_distributed_as_published(model: str, count: int) -> None:
    """Over 2,500 draws of each, every share is within 0.05 of the plain one: 3.5 standard deviations."""
    random = np.random.Generator(np.random.Philox(5))
    plain = [(plain_few if model == "few" else plain_spread)(random, count) for _ in range(DRAWS)]
    for ours, theirs in zip(frequencies(kept(model, count), count), frequencies(plain, count), strict=True):
        assert np.abs(ours - theirs).max() < 0.05


def test_the_comparison_sees_another_model() -> None:
    """The two models, and a uniform one, differ by far more than the threshold."""
    few, spread = (frequencies(kept(model, 16), 16) for model in ("few", "spread"))
    random = np.random.Generator(np.random.Philox(5))
    uniform = frequencies([sorted(random.choice(16, random.integers(1, 4), False).tolist()) for _ in range(DRAWS)], 16)
    for first, second in ((few, spread), (few, uniform)):
        assert max(np.abs(a - b).max() for a, b in zip(first, second, strict=True)) > 0.1


@pytest.mark.parametrize("model", ["few", "spread"])
def test_central_slices_are_favoured(model: str) -> None:
    """The middle third of 15 slices is kept more often than either outer third."""
    shares = frequencies(kept(model, 15), 15)[1]
    assert shares[5:10].sum() > 1.2 * max(shares[:5].sum(), shares[10:].sum())


@given(st.sampled_from(["few", "spread"]), st.integers(1, 40), st.integers(0, 2**40))
def test_kept_slices_exist_are_distinct_and_at_least_one(model: str, count: int, seed: int) -> None:
    """Sorted, within the slices, never none; the same for the same stream."""
    recipe = SeedRecipe(model=model)
    slices = keep_slices(Stream(seed, 1), recipe, count)
    assert slices == sorted(set(slices))
    assert slices
    assert 0 <= slices[0] <= slices[-1] < count
    assert slices == keep_slices(Stream(seed, 1), recipe, count)
    assert all(isinstance(n, int) for n in slices)


def test_more_slices_than_exist_is_an_error_at_once() -> None:
    """Five of three: told, not searched for without end."""
    recipe = SeedRecipe(few=FewRecipe(limits=(5, 6), mean=5))
    with pytest.raises(RejectedSample, match="on 3 slices, but at least 5"):
        keep_slices(Stream(0), recipe, 3)
    with pytest.raises(ValueError, match="count 0"):
        keep_slices(Stream(0), SeedRecipe(), 0)


def test_all_slices_can_be_kept() -> None:
    """Exactly as many as exist is possible."""
    assert keep_slices(Stream(0), SeedRecipe(few=FewRecipe(limits=(3, 3))), 3) == [0, 1, 2]


def test_the_draws_are_exponential_and_normal() -> None:
    """Mean, spread and quantiles of 20,000 draws, within 4 standard errors; six decimals."""
    stream = Stream(3, "numbers")
    waits, values = (np.array([draw(stream) for _ in range(20_000)]) for draw in (exponential, normal))
    assert abs(waits.mean() - 1) < 4 / np.sqrt(20_000)
    assert abs((waits > np.log(4)).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 20_000)
    assert waits.min() >= 0
    assert abs(values.mean()) < 4 / np.sqrt(20_000)
    assert abs(values.std() - 1) < 4 / np.sqrt(40_000)
    assert abs((values > 1).mean() - 0.158655) < 4 * np.sqrt(0.1587 * 0.8413 / 20_000)
    assert np.array_equal(values, np.round(values, 6))


def test_drawn_slices_stay_what_they_are() -> None:
    """Slices drawn today are drawn by every later version: data sets are their recipes."""
    few, spread = SeedRecipe(model="few"), SeedRecipe(model="spread")
    assert [keep_slices(Stream(0, "fixed", n), few, 12) for n in range(6)] == FEW
    assert [keep_slices(Stream(0, "fixed", n), spread, 12) for n in range(6)] == SPREAD


FEW = [[6, 9], [8], [7], [9], [7], [6, 7]]
SPREAD = [[1, 2, 4, 5, 6, 7, 11], [9], [5, 7, 9], [4, 11], [6, 7], [1, 4, 5, 6, 7, 8]]
