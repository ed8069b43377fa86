"""No axis is special to the appearance: permuting the axes of a label volume permutes the statistics of its views.

Views of a volume and of its permuted copy are drawn independently. What is measured along an axis of the one must have
the distribution of what is measured along the axis that it became in the other: p > `ACCEPT` in Kolmogorov-Smirnov and
Mann-Whitney tests, for 3 permutations, 3 axes and 5 statistics. The volumes differ so much from axis to axis that
the same tests without the permutation fail, and so do artifacts that act along two axes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sizes import needs_compiler

from voxmint.pairs.draws import draw_view
from voxmint.pairs.engines.cpu.appearance import labels_present, render
from voxmint.pairs.recipe import ViewRecipe
from voxmint.randomness import Stream
from voxmint.sample import JSON

Labels = NDArray[np.uint8]
Statistics = NDArray[np.float64]
"""(views, axes, statistics)."""
SIDE = 32
VIEWS = 70
ACCEPT = 1e-5
pytestmark = needs_compiler
PERMUTATIONS = [(1, 2, 0), (2, 0, 1), (2, 1, 0)]


def bricks(seed: int) -> Labels:
    """Return random labels in bricks of 4 x 8 x 16 voxels: edges are many along i and few along k."""
    labels = np.random.default_rng(seed).integers(0, 12, (8, 4, 2), dtype=np.uint8)
    return labels.repeat(4, 0).repeat(8, 1).repeat(16, 2)


def along_axes(view: NDArray[np.uint8]) -> Statistics:
    """Return, for each axis, the correlation of neighbours and the shares of power in four bands of that frequency."""
    image = view - view.mean()
    power = np.abs(np.fft.fftn(image)) ** 2 / (np.sum(image**2) * image.size + 1e-9)
    rows = []
    for axis in range(3):
        neighbours = np.moveaxis(image, axis, 0)
        correlation = np.sum(neighbours[1:] * neighbours[:-1]) / (np.sum(image**2) + 1e-9)
        line = np.moveaxis(power, axis, 0).sum(axis=(1, 2))[: SIDE // 2 + 1]
        rows.append([correlation, line[1:3].sum(), line[3:6].sum(), line[6:12].sum(), line[12:].sum()])
    return np.array(rows)


def measure(order: tuple[int, ...], first: int, change: Callable[[JSON], JSON] = lambda view: view) -> Statistics:
    """Return the statistics of views of volumes with axes in this order, with draws of their own."""
    found = []
    for number in range(VIEWS):
        labels = np.ascontiguousarray(bricks(number).transpose(order))
        drawn = draw_view(Stream(first + number, "axes"), ViewRecipe(), labels_present(labels), labels.shape)
        found.append(along_axes(render(labels, change(drawn), 0.02)))
    return np.array(found)


def least_p_value(a: Statistics, b: Statistics) -> float:
    """Return the least p-value over axes and statistics that both sets come from one distribution."""
    columns = zip(a.reshape(len(a), -1).T, b.reshape(len(b), -1).T, strict=True)
    return min(min(stats.ks_2samp(x, y).pvalue, stats.mannwhitneyu(x, y).pvalue) for x, y in columns)


@pytest.fixture(scope="module")
def plain() -> Statistics:
    return measure((0, 1, 2), 0)


@pytest.mark.parametrize("order", PERMUTATIONS)
def test_permuted_labels_give_permuted_statistics(order: tuple[int, ...], plain: Statistics) -> None:
    """Spectra and neighbours along each axis follow the axis, whichever place it takes."""
    permuted = measure(order, 1000)
    assert least_p_value(plain[:, order], permuted) > ACCEPT
    assert least_p_value(plain, permuted) < ACCEPT


def two_axes(name: str, value: Any) -> Callable[[JSON], JSON]:
    return lambda view: view | {"artifacts": view["artifacts"] | {name: value}}


@pytest.mark.parametrize(
    "change",
    [
        two_axes("smoothing", [0.6, 0.6, 0.0]),
        two_axes("sharpening", {"sigma1": [0.9, 0.9, 0.05], "sigma2": [0.7, 0.7, 0.05], "alpha": 10.0}),
    ],
    ids=["smoothing", "sharpening"],
)
def test_artifacts_along_two_axes_are_found(change: Callable[[JSON], JSON]) -> None:
    """Smoothed or sharpened along i and j alone, statistics no longer follow the axes."""
    order = (2, 0, 1)
    assert least_p_value(measure((0, 1, 2), 0, change)[:, order], measure(order, 1000, change)) < ACCEPT
