"""Whole samples have the statistics of the reference's, which draws its own parameters from the published constants.

Each feature of `reference.features` gives one p-value. With about 45 features, many of them correlated, sets from one
distribution fall below `ACCEPT` by chance about once in 200 times; seeds are fixed, so a run is deterministic. Each
planted error must fall below the same threshold in a feature named with it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sizes import needs_compiler

from reference.ensemble import Mask
from reference.features import label_features, noise_asymmetry, pair_features, view_features
from reference.random_pairs import Published, pair_reference_random
from reference.statistics import Features, collect, compare, gather, rejected
from voxmint.pairs.engines.cpu.appearance import render
from voxmint.pairs.engines.cpu.ensemble import make_ensemble
from voxmint.pairs.recipe import PairRecipe
from voxmint.pairs.sampler import PairSampler
from voxmint.sample import JSON, Sample
from voxmint.templates.bank import TemplateBank

pytestmark = needs_compiler
SIDE = 33
REFERENCE_PAIRS, OUR_PAIRS = 64, 100
PLANTED = 60
ACCEPT = 1e-4
KINDS = ("unconstrained", "foreground_masked", "foreground_masked_enveloped")


@pytest.fixture(scope="session")
def expected(masks: list[Mask], tmp_path_factory: pytest.TempPathFactory) -> Features:
    """Return the features of the reference's pairs, made by one test process for all."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    path = folder / "reference_features.npz"
    with (folder / "reference_features.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            rng, constants = np.random.default_rng(20250), Published((SIDE,) * 3)
            np.savez(path, **gather(pair_reference_random(rng, masks, constants)[:3] for _ in range(REFERENCE_PAIRS)))
    with np.load(path) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def samples(bank: TemplateBank) -> list[Sample]:
    """Return our pairs, as a run makes them."""
    sampler = PairSampler(PairRecipe(side=SIDE), bank, seed=1)
    return [sampler[index] for index in range(OUR_PAIRS)]


def test_samples_have_the_references_statistics(samples: list[Sample], expected: Features) -> None:
    """Labels, sizes, order of covering, masks, intensities, noise, spectra, views beside each other: none differs."""
    ours = gather((sample.arrays["seg"], *sample.arrays["img"]) for sample in samples)
    assert set(ours) == set(expected)
    assert rejected(compare(ours, expected), ACCEPT) == {}


def test_kinds_and_numbers_of_templates_are_the_published_ones(samples: list[Sample]) -> None:
    """A third of each kind, and 20 to 39 templates alike (chi-square); the record says what the key says."""
    kinds = [sample.key.rsplit("_shapes", 1)[0] for sample in samples]
    counts = [len(sample.record["ensemble"]["templates"]) for sample in samples]
    assert set(kinds) == set(KINDS)
    assert stats.chisquare([kinds.count(kind) for kind in KINDS]).pvalue > 1e-3
    assert min(counts) >= 20
    assert max(counts) <= 39
    assert stats.chisquare(np.bincount((np.array(counts) - 20) // 4, minlength=5)).pvalue > 1e-3
    for sample, kind in zip(samples, kinds, strict=True):
        assert (kind == "unconstrained") == (sample.record["ensemble"]["foreground"] is None)
        assert sample.arrays["seg"].max() <= len(sample.record["ensemble"]["templates"]) + 1


Change = Callable[[JSON], JSON]


def every_warp(change: Change) -> Change:
    return lambda drawn: drawn | {"templates": [warp | change(warp) for warp in drawn["templates"]]}


def foreground(change: Callable[[JSON], JSON | None]) -> Change:
    return lambda drawn: drawn | {"foreground": change(drawn["foreground"]) if drawn["foreground"] else None}


def scaled_noise(factor: float) -> Change:
    return foreground(lambda f: f | {"displacement": [s | {"std": factor * s["std"]} for s in f["displacement"]]})


ENSEMBLE_ERRORS: dict[str, tuple[Change, str]] = {
    "templates twice as large": (every_warp(lambda w: {"scale": [s / 2 for s in w["scale"]]}), "labels.count"),
    "order of covering reversed": (lambda d: d | {"templates": d["templates"][::-1]}, "labels.size_against_order"),
    "mask missing": (foreground(lambda f: None), "labels.foreground_share"),
    "envelope missing": (foreground(lambda f: f | {"envelope": None}), "labels.has_envelope"),
    "envelope always": (foreground(lambda f: f | {"envelope": 3}), "labels.has_envelope"),
    "radius not scaled to the side": (foreground(lambda f: f | {"radius": 4 * f["radius"]}), "labels.foreground_share"),
    "displacement missing": (scaled_noise(0), "labels.mask_roughness"),
    "displacement doubled": (scaled_noise(2), "labels.mask_roughness"),
}


@pytest.mark.parametrize("name", ENSEMBLE_ERRORS)
def test_planted_errors_of_ensembles_are_found(
    name: str, samples: list[Sample], expected: Features, bank: TemplateBank
) -> None:
    """Ensembles made from parameters with one error differ from the reference's in the feature that shows it."""
    change, feature = ENSEMBLE_ERRORS[name]
    made = [make_ensemble(bank, change(s.record["ensemble"]), (SIDE,) * 3) for s in samples[:PLANTED]]
    ours = collect(label_features(labels) for labels in made)
    assert feature in rejected(compare(ours, expected), ACCEPT)


def artifacts(**values: Any) -> Change:
    return lambda view: view | {"artifacts": view["artifacts"] | values}


def intensity(change: Change) -> Change:
    return lambda view: view | {"intensity": view["intensity"] | change(view["intensity"])}


def texture(factor: float) -> Change:
    return lambda view: view | {"texture": [s | {"std": factor * s["std"]} for s in view["texture"]]}


def each(change: Change) -> Callable[[list[JSON]], list[JSON]]:
    return lambda views: [change(view) for view in views]


def shared(name: str, *fields: str) -> Callable[[list[JSON]], list[JSON]]:
    """Give the second view some of the first one's parameters."""

    def change(views: list[JSON]) -> list[JSON]:
        first, second = views[0][name], views[1][name]
        return [views[0], views[1] | {name: second | {f: first[f] for f in fields} if fields else first}]

    return change


VIEW_ERRORS: dict[str, tuple[Callable[[list[JSON]], list[JSON]], str]] = {
    "noise doubled": (each(intensity(lambda i: {"std": [2 * s for s in i["std"]]})), "view.noise"),
    "one mean for all labels": (each(intensity(lambda i: {"mean": [140] * len(i["mean"])})), "view.between_labels"),
    "background always empty": (each(intensity(lambda i: {"empty_background": True})), "view.lowest_over_mean"),
    "texture missing": (each(texture(0)), "view.texture"),
    "bias field missing": (each(artifacts(bias_field=None)), "view.shading"),
    "spike always": (each(artifacts(kspace_spike={"location": [3, 20, 9], "intensity": 1.0})), "view.has_spike"),
    "gamma always 2": (each(artifacts(gamma=2.0)), "view.middle_label"),
    "gibbs missing": (each(artifacts(gibbs=None)), "view.band_7"),
    "low resolution always": (each(artifacts(low_resolution=0.6)), "view.noise_near_over_far"),
    "smoothed along two axes": (each(artifacts(smoothing=[0.5, 0.5, 0])), "noise.axis_0_over_2"),
    "views share their intensities": (shared("intensity", "mean", "std", "empty_background"), "pair.label_means"),
    "views share their noise": (shared("intensity", "key"), "pair.noise"),
    "views share their texture": (shared("texture"), "pair.texture"),
}


@pytest.mark.parametrize("name", VIEW_ERRORS)
def test_planted_errors_of_views_are_found(name: str, samples: list[Sample], expected: Features) -> None:
    """Views rendered from parameters with one error differ from the reference's in the feature that shows it."""
    change, feature = VIEW_ERRORS[name]

    find = {"view": view_features, "pair": pair_features, "noise": noise_asymmetry}[feature.split(".")[0]]
    found = []
    for sample in samples[:PLANTED]:
        labels = sample.arrays["seg"]
        views = [render(labels, view, 0.02) for view in change(sample.record["views"])]
        found += [find(labels, *views)] if find is pair_features else [find(labels, view) for view in views]
    assert feature in rejected(compare(collect(found), expected), ACCEPT)
