"""Noise fields are standard normal and independent: between neighbours, between keys, at any distance.

Keys are fixed, so the tests are deterministic. Limits are stated in standard errors of the n values looked at; with
these numbers of comparisons a sound generator stays below 4.5 of them.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sizes import needs_compiler, sized

from voxmint.pairs.engines.cpu.kernels.noise import normal_field
from voxmint.pairs.engines.cpu.kernels.upsample import grid_size

COUNT = sized(1_000_001, 100_001)
KEYS = (0, 1, 0x9E3779B97F4A7C15, 0xFFFFFFFFFFFFFFFF)
LIMIT = 4.5
"""Standard errors."""


def field(key: int, count: int = COUNT) -> NDArray[np.float64]:
    values = normal_field(key, count)
    assert values.dtype == np.float32
    assert values.shape == (count,)
    return values.astype(np.float64)


@pytest.mark.parametrize("key", KEYS)
def test_moments_are_those_of_the_standard_normal(key: int) -> None:
    """Mean 0, variance 1, skewness 0, fourth moment 3 and sixth 15, each to 4.5 standard errors of 10^6 values."""
    values = field(key)
    for power, moment, of_square in ((1, 0, 1), (2, 1, 3), (3, 0, 15), (4, 3, 105), (6, 15, 10395)):
        error = np.sqrt((of_square - moment**2) / COUNT)
        assert abs(np.mean(values**power) - moment) < LIMIT * error, f"moment {power}"


@pytest.mark.parametrize("key", KEYS)
def test_distribution_is_normal(key: int) -> None:
    """Kolmogorov-Smirnov over 10^6 values does not reject at p < 10^-4."""
    assert stats.kstest(field(key), "norm").pvalue > 1e-4


@needs_compiler
def test_tests_of_distribution_bite() -> None:
    """A variance off by 2 %, or tails cut at three standard deviations, would be rejected."""
    values = field(1)
    assert stats.kstest(1.01 * values, "norm").pvalue < 1e-4
    cut = np.clip(values, -3, 3)
    assert abs(np.mean(cut**4) - 3) > LIMIT * np.sqrt(96 / COUNT)


@needs_compiler
@pytest.mark.parametrize("key", KEYS)
def test_tails_have_their_share(key: int) -> None:
    """As many values beyond 2, 3, 4 and 4.5 as a normal has, on either side, and none beyond 6.5."""
    values = field(key)
    for limit in (0.1, 0.5, 1, 2, 3, 4, 4.5):
        expected = COUNT * stats.norm.sf(limit)
        for side in (values, -values):
            assert abs(np.count_nonzero(side > limit) - expected) < LIMIT * np.sqrt(expected) + 1
    assert 4.5 < np.abs(values).max() < 6.5


@pytest.mark.parametrize("key", KEYS)
def test_neighbours_are_independent(key: int) -> None:
    """No correlation of values, of sizes or of signs at the distances that rows and planes of volumes have."""
    values = field(key)
    for lag in (1, 2, 3, 4, 7, 8, 16, 32, 33, 64, 128, 1024, 1089, 4096, 16384):
        for transformed in (values, np.abs(values) - np.sqrt(2 / np.pi), np.sign(values)):
            products = transformed[lag:] * transformed[:-lag]
            assert abs(products.mean()) < LIMIT * products.std() / np.sqrt(products.size), f"lag {lag}"


def test_triples_fill_the_cube() -> None:
    """Consecutive triples fall evenly into 8^3 cells of equal probability (chi-square, p > 10^-4)."""
    cells = np.minimum(8 * stats.norm.cdf(field(3)[: 3 * (COUNT // 3)]), 7).astype(int).reshape(-1, 3)
    counts = np.bincount(cells @ (64, 8, 1), minlength=512)
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("other", [1, 2, 1 << 33, 0x9E3779B97F4A7C15, 0x3C6EF372FE94F82A, 1 << 63])
def test_keys_are_independent(other: int) -> None:
    """Keys that differ in one bit, or by the counter's own step, share nothing at any small shift."""
    count = sized(200_000, 4_000)
    for key in (0, 12345):
        a, b = field(key, count), field((key + other) % 2**64, count)
        for shift in range(-3, 4):
            products = a[3:-3] * b[3 + shift : count - 3 + shift]
            assert abs(products.mean()) < LIMIT * products.std() / np.sqrt(products.size), f"shift {shift}"
        assert np.count_nonzero(a == b) < 20


def test_consecutive_keys_give_independent_values() -> None:
    """The first values of keys 0, 1, 2, ... are themselves standard normal and uncorrelated."""
    first = np.array([normal_field(key, 4) for key in range(sized(4000, 400))], np.float64)
    assert stats.kstest(first.ravel(), "norm").pvalue > 1e-4
    correlation = np.corrcoef(np.column_stack([first[1:], first[:-1]]).T)
    assert np.abs(correlation - np.eye(8)).max() < LIMIT / np.sqrt(len(first) - 1)


def test_an_element_depends_on_key_and_place_alone() -> None:
    """A longer field begins with the shorter one; another key gives another field; the same key the same bits."""
    whole = normal_field(77, 1001)
    for count in (1, 2, 3, 64, 1000):
        np.testing.assert_array_equal(normal_field(77, count), whole[:count])
    assert not np.array_equal(normal_field(78, 1001), whole)


@needs_compiler
def test_no_two_values_of_a_field_repeat_in_step() -> None:
    """The field has no short period."""
    values = normal_field(5, 200_000)
    for lag in (1, 2, 1024, 4096, 65536, 100_000):
        assert np.mean(values[lag:] == values[:-lag]) < 1e-4


def test_a_spacing_that_divides_the_size_gives_whole_cells() -> None:
    """A hundredth of a side of 205 is a hundredth, whatever the last bit of the two lengths says."""
    spacing = 1.28 * (205 / 128)
    assert 205 / spacing > 100
    assert grid_size(205, spacing) == 100
    assert [grid_size(size, 8) for size in (1, 8, 9, 16, 17)] == [1, 1, 2, 2, 3]
