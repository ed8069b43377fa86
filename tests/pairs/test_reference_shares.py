"""What a whole pair shows too faintly, seen on volumes made for it: one label for the views, rods for the ensembles.

A volume of one label is all noise, so that a single number of a view tells of one artifact: noise of a normal
distribution is skewed by a gamma alone (and by sharpening, whose negative half is cut), rough along one axis more than
along another by smoothing alone (and by sharpening), and one frequency stands out by a spike alone. How many of `VIEWS`
views lie above a limit is compared with how many of `REFERENCES` of the reference do (Fisher's exact test). Ensembles
of rods that all lie along the first axis show how far they are rotated, 60 of them compared with 60 of the reference.
Ours must be accepted at `ACCEPT`, each planted error refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, stats
from sizes import needs_compiler

from reference.ensemble import ensemble_reference
from reference.features import label_features
from reference.random_pairs import Published, noise_of, random_ensemble, random_view
from reference.statistics import Features, collect, compare
from reference.view import view_reference
from voxmint.pairs.draws import draw_ensemble, draw_view
from voxmint.pairs.engines.cpu.appearance import labels_present, render
from voxmint.pairs.engines.cpu.ensemble import affine_matrix, make_ensemble
from voxmint.pairs.recipe import EnsembleRecipe, ViewRecipe
from voxmint.randomness import Stream
from voxmint.sample import JSON
from voxmint.templates.bank import TemplateBank
from voxmint.templates.packing import Template, pack
from voxmint.templates.writing import write_bank

Image = NDArray[np.float64]
pytestmark = needs_compiler
ACCEPT = 1e-4
SIDE, VIEWS, REFERENCES = 44, 400, 1000
LABELS = np.ones((SIDE,) * 3, np.uint8)
LABELS[0, 0, 0] = 0  # the lowest label may stay empty
LABELS.flags.writeable = False


def skewness(view: Image) -> float:
    """Return the skewness of what the mean of the six neighbours leaves of a voxel."""
    noise = view - sum(np.roll(view, step, axis) for axis in range(3) for step in (-1, 1)) / 6
    noise = noise[4:-4, 4:-4, 4:-4]
    noise = noise - noise.mean()
    return abs(float(np.mean(noise**3) / (np.mean(noise**2) ** 1.5 + 1e-6)))


def anisotropy(view: Image) -> float:
    """Return how much the noise's roughness differs between axes: the spread of its logarithm."""
    inner = view[2:-2, 2:-2, 2:-2]
    return float(np.std([np.log(np.mean(np.diff(inner, 2, axis) ** 2) + 1e-3) for axis in range(3)]))


def highest_peak(view: Image) -> float:
    """Return the decades by which a frequency's power exceeds the mean of those around it; the lowest are left out."""
    power = np.abs(np.fft.rfftn(view - view.mean())) ** 2
    around = (125 * ndimage.uniform_filter(power, 5, mode="wrap") - power) / 124
    ratio = power / (around + 1e-9 * power.mean() + 1e-9)
    slow = [np.abs(np.fft.fftfreq(SIDE, 1 / SIDE)) < 4] * 2 + [np.arange(ratio.shape[2]) < 4]
    ratio[np.ix_(*slow)] = 0
    return float(np.log10(ratio.max() + 1e-9))


STATISTICS: dict[str, tuple[Callable[[Image], float], float, int]] = {
    "gamma": (skewness, 0.1, 351),
    "smoothing": (anisotropy, 0.017, 561),
    "kspace_spike": (highest_peak, 1.7, 156),
}
"""Of each artifact: statistic, limit, and how many of `REFERENCES` views of the reference lie above it."""
every_statistic = pytest.mark.parametrize("name", STATISTICS)


def count_above(name: str, views: Iterable[Image]) -> int:
    find, limit, _ = STATISTICS[name]
    return sum(find(view) > limit for view in views)


def reference_views(count: int) -> Iterator[Image]:
    """Yield views of the one label by the reference: the first of those that `STATISTICS` counts."""
    rng, constants = np.random.default_rng(11), Published((SIDE,) * 3)
    for _ in range(count):
        yield view_reference(LABELS, random_view(rng, constants, LABELS), noise_of)["view"].astype(np.float64)


def our_views(change: Callable[[JSON], JSON] = lambda view: view) -> Iterator[Image]:
    """Yield views of the one label, each drawn as in a run."""
    recipe, present = ViewRecipe(), labels_present(LABELS)
    for number in range(VIEWS):
        drawn = draw_view(Stream(number, "one label"), recipe, present, LABELS.shape)
        yield render(LABELS, change(drawn), recipe.texture_strength).astype(np.float64)


def p_value(name: str, views: Iterable[Image]) -> float:
    """Return the p-value that as many of our views as of the reference's lie above the limit."""
    above, expected = count_above(name, views), STATISTICS[name][2]
    return float(stats.fisher_exact([[above, VIEWS - above], [expected, REFERENCES - expected]]).pvalue)


@pytest.fixture(scope="module")
def ours() -> list[NDArray[np.uint8]]:
    """Return our views, made once for all statistics."""
    return [view.astype(np.uint8) for view in our_views()]


@every_statistic
def test_shares_of_views_are_the_references(ours: list[NDArray[np.uint8]], name: str) -> None:
    """As many views are skewed, uneven along axes, or have an outstanding frequency."""
    assert p_value(name, (view.astype(np.float64) for view in ours)) > ACCEPT


@pytest.mark.parametrize("name", ["gamma", *(pytest.param(n, marks=pytest.mark.stress) for n in list(STATISTICS)[1:])])
def test_a_missing_artifact_is_found(name: str) -> None:
    """Views without a gamma, without smoothing or without spikes have other shares."""
    assert p_value(name, our_views(lambda v: v | {"artifacts": v["artifacts"] | {name: None}})) < ACCEPT


def test_the_stated_shares_are_those_of_the_reference() -> None:
    """The first 60 views of the reference do not contradict the counts (binomial)."""
    views = list(reference_views(60))
    for name, (_, _, expected) in STATISTICS.items():
        assert stats.binomtest(count_above(name, views), len(views), expected / REFERENCES).pvalue > ACCEPT


@pytest.mark.stress
def test_the_stated_counts_are_those_of_the_reference() -> None:
    """All views of the reference give the counts, but for a few that another version of a library may move."""
    views = list(reference_views(REFERENCES))
    for name, (_, _, expected) in STATISTICS.items():
        assert abs(count_above(name, views) - expected) <= 3


RODS = [(30, 4, 5), (24, 3, 3), (28, 6, 4), (20, 5, 5)]
ENSEMBLES, ROD_SIDE = 60, 24
EDGES = [f"labels.edges_{axis}" for axis in range(3)]


@pytest.fixture(scope="module")
def rods(tmp_path_factory: pytest.TempPathFactory) -> TemplateBank:
    """Return a bank of rods along the first axis."""
    templates = []
    for number, size in enumerate(RODS):
        words, shape = pack(np.ones(size, bool))
        templates.append(Template(f"rod{number}", words, shape, int(np.prod(size))))
    return write_bank(tmp_path_factory.mktemp("rods") / "rods.h5", templates)


@pytest.fixture(scope="module")
def reference_rods() -> Features:
    rng = np.random.default_rng(12)
    constants = Published((ROD_SIDE,) * 3, templates=(6, 12), mask_probability=0)
    masks = [np.ones(size, bool) for size in RODS]
    drawn = [random_ensemble(rng, constants, len(masks)) for _ in range(ENSEMBLES)]
    return collect(label_features(ensemble_reference(masks, one, (ROD_SIDE,) * 3, noise_of)["labels"]) for one in drawn)


def least_p_value(bank: TemplateBank, expected: Features, **fields: Any) -> float:
    """Return the least p-value that edges of our ensembles lie along the axes as the reference's do."""
    recipe = EnsembleRecipe(side=ROD_SIDE, min_templates=6, max_templates=12, foreground={"probability": 0}, **fields)
    drawn = [draw_ensemble(Stream(number, "rods"), recipe, len(bank)) for number in range(ENSEMBLES)]
    found = collect(label_features(make_ensemble(bank, one, (ROD_SIDE,) * 3)) for one in drawn)
    return min(compare(found, expected, EDGES).values())


def test_rods_lie_as_the_references(rods: TemplateBank, reference_rods: Features) -> None:
    """Edges across each axis are as many as in the reference's ensembles of rods."""
    assert least_p_value(rods, reference_rods) > ACCEPT


@pytest.mark.parametrize("limit", [0, 30, 45])
def test_too_little_rotation_is_found(rods: TemplateBank, reference_rods: Features, limit: float) -> None:
    """Rods turned by up to 45 degrees about each axis, or not at all, still lie along the first one."""
    assert least_p_value(rods, reference_rods, rotation=(-limit, limit)) < ACCEPT


def test_half_the_limits_of_rotation_give_the_same_maps() -> None:
    """With mirrored axes, angles up to 180 degrees give no map that angles up to 90 do not: no sample tells them apart.

    Half a turn about an axis mirrors the other two. Moved to the left through the other rotations it reverses their
    angles, and there it joins the mirroring, which is as likely as none. Only the drawn numbers differ, and
    `test_reference_draws` looks at these.
    """
    rng = np.random.default_rng(0)
    for _ in range(200):
        warp = {
            "scale": rng.uniform(0.5, 1.5, 3),
            "mirror": rng.random(3) < 0.5,
            "rotation": rng.uniform(-180, 180, 3),
            "shear": rng.uniform(-0.5, 0.5, 3),
        }
        turns = np.round(warp["rotation"] / 180)
        rotation, mirror = warp["rotation"] - 180 * turns, warp["mirror"].copy()
        for axis in np.flatnonzero(turns):
            rotation[:axis] *= -1
            mirror ^= np.arange(3) != axis
        same = warp | {"rotation": rotation, "mirror": mirror}
        assert np.abs(rotation).max() <= 90
        np.testing.assert_allclose(affine_matrix(same), affine_matrix(warp), atol=1e-12)
