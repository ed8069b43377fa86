"""Drawn parameters follow the published distributions, stated here as numbers and not read from a recipe.

The pooled draws of each parameter are tested against its distribution (Kolmogorov-Smirnov, chi-square or binomial).
About 60 p-values are looked at, and each must exceed `ACCEPT`; a recipe with one wrong number must fall below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from voxmint.pairs.draws import draw_ensemble, draw_view
from voxmint.pairs.recipe import PairRecipe
from voxmint.randomness import Stream

ACCEPT = 1e-5
ENSEMBLES, VIEWS = 200, 600
BANK_SIZE = 7
SHAPE = (128, 128, 128)
LABELS = list(range(25))


def uniform(values: Any, low: float, high: float) -> float:
    """Return the p-value of U(low, high); 0 when a value lies outside."""
    values = np.ravel(values)
    if len(values) == 0 or values.min() < low - 1e-6 or values.max() > high + 1e-6:
        return 0.0
    return float(stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue)


def equal_counts(values: Any, choices: Sequence[int]) -> float:
    """Return the p-value of all ``choices`` being equally likely; 0 when another value occurs."""
    values = np.ravel(values)
    if not np.isin(values, choices).all():
        return 0.0
    return float(stats.chisquare([np.count_nonzero(values == choice) for choice in choices]).pvalue)


def rate(values: Sequence[bool], probability: float) -> float:
    return float(stats.binomtest(int(np.sum(values)), len(values), probability).pvalue)


def ensemble_p_values(recipe: PairRecipe) -> dict[str, float]:
    drawn = [draw_ensemble(Stream(2, index, "ensemble"), recipe, BANK_SIZE) for index in range(ENSEMBLES)]
    warps = [warp for parameters in drawn for warp in parameters["templates"]]
    masks = [parameters["foreground"] for parameters in drawn if parameters["foreground"]]
    envelopes = [mask["envelope"] for mask in masks if mask["envelope"]]
    field = {name: np.array([warp[name] for warp in warps], float) for name in warps[0]}
    p = {
        "count": equal_counts([len(parameters["templates"]) for parameters in drawn], range(20, 40)),
        "template": equal_counts(field["template"], range(BANK_SIZE)),
        "masked": rate([bool(parameters["foreground"]) for parameters in drawn], 2 / 3),
        "envelope": rate([bool(mask["envelope"]) for mask in masks], 1 / 2),
        "envelope radius": equal_counts(envelopes, [2, 3, 4]) if envelopes else 0.0,
        "radius": equal_counts([mask["radius"] for mask in masks], range(48, 72)),
        "centre": equal_counts([mask["centre"] for mask in masks], range(32, 96)),
        "displacement": uniform([[scale["std"] for scale in mask["displacement"]] for mask in masks], 1, 5),
    }
    for axis in range(3):
        p[f"scale {axis}"] = uniform(field["scale"][:, axis], 0.5, 1.5)
        p[f"mirror {axis}"] = rate(field["mirror"][:, axis], 1 / 2)
        p[f"rotation {axis}"] = uniform(field["rotation"][:, axis], -180, 180)
        p[f"shear {axis}"] = uniform(field["shear"][:, axis], -0.5, 0.5)
        p[f"translation {axis}"] = uniform(field["translation"][:, axis], -5, 5)
    # parameters are independent: no pair of the 15 numbers of a warp is correlated
    numbers = np.column_stack([field[n] for n in ("scale", "mirror", "rotation", "shear", "translation")])
    correlation = np.corrcoef(numbers.T)[np.triu_indices(15, 1)]
    p["independence"] = float(105 * 2 * stats.norm.sf(np.abs(correlation).max() * np.sqrt(len(numbers))))
    assert [warp["label"] for warp in drawn[0]["templates"]] == list(range(len(drawn[0]["templates"])))
    assert {tuple(scale["spacing"] for scale in mask["displacement"]) for mask in masks} == {(8, 16, 32)}
    return p


PROBABILITIES = {
    "bias_field": 0.98,
    "kspace_spike": 0.2,
    "gamma": 0.5,
    "smoothing": 0.5,
    "gibbs": 0.5,
    "sharpening": 0.25,
    "low_resolution": 0.333,
}


def view_p_values(recipe: PairRecipe) -> dict[str, float]:
    drawn = [draw_view(Stream(3, index, "view"), recipe.view, LABELS, SHAPE) for index in range(VIEWS)]
    found = {name: [view["artifacts"][name] for view in drawn] for name in PROBABILITIES}
    p = {f"{name} rate": rate([v is not None for v in found[name]], p) for name, p in PROBABILITIES.items()}
    used: dict[str, Any] = {name: [v for v in found[name] if v is not None] for name in PROBABILITIES}
    sharpening = used["sharpening"]
    sigma1, sigma2 = (np.array([s[name] for s in sharpening]).reshape(-1, 3) for name in ("sigma1", "sigma2"))
    shares = (sigma2 - 0.5) / np.maximum(sigma1 - 0.5, 1e-9)
    return p | {
        "mean": uniform([view["intensity"]["mean"] for view in drawn], 25, 255),
        "std": uniform([view["intensity"]["std"] for view in drawn], 5, 20),
        "empty background": rate([view["intensity"]["empty_background"] for view in drawn], 1 / 4),
        "texture": uniform([[scale["std"] for scale in view["texture"]] for view in drawn], 0, 5),
        "bias_field": uniform(used["bias_field"], 0, 0.075) if np.shape(used["bias_field"])[-1] == 20 else 0.0,
        "spike intensity": uniform([spike["intensity"] for spike in used["kspace_spike"]], 0.95, 1.1),
        "spike place": uniform([spike["location"] for spike in used["kspace_spike"]], -0.5, 127.5),
        "gamma": uniform(used["gamma"], 0.5, 2),
        "smoothing": uniform(used["smoothing"], 0, 0.333),
        "gibbs": uniform(used["gibbs"], 0, 0.333),
        "sharpening sigma1": uniform(sigma1, 0.5, 1),
        "sharpening sigma2": uniform(shares[sigma1 > 0.51], 0, 1),
        "sharpening alpha": uniform([s["alpha"] for s in sharpening], 10, 30),
        "low_resolution": uniform(used["low_resolution"], 0.5, 1),
    }


def refused(p: dict[str, float]) -> set[str]:
    return {name for name, value in p.items() if not value > ACCEPT}


def test_ensembles_are_drawn_as_published() -> None:
    """Counts, templates, affine maps, masks and envelopes have the published distributions and are independent."""
    assert refused(ensemble_p_values(PairRecipe())) == set()


def test_views_are_drawn_as_published() -> None:
    """Intensities, texture and artifacts have the published probabilities and limits, and MONAI's defaults."""
    assert refused(view_p_values(PairRecipe())) == set()


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"rotation": (-90, 90)}, {"rotation 0", "rotation 1", "rotation 2"}),
        ({"scale": (0.5, 2.0)}, {"scale 0", "scale 1", "scale 2"}),
        ({"shear": (-0.25, 0.25)}, {"shear 0", "shear 1", "shear 2"}),
        ({"translation": (-5, 4)}, {"translation 0", "translation 1", "translation 2"}),
        ({"mirror_probability": 0.4}, {"mirror 0", "mirror 1", "mirror 2"}),
        ({"max_templates": 41}, {"count"}),
        ({"foreground": {"probability": 0.45}}, {"masked"}),
        ({"foreground": {"envelope_probability": 0.0}}, {"envelope", "envelope radius"}),
        ({"foreground": {"envelope_radius": (1, 2, 3)}}, {"envelope radius"}),
        ({"foreground": {"radius": (48, 73)}}, {"radius"}),
        ({"foreground": {"shift": (-32, 33)}}, {"centre"}),
        ({"foreground": {"noise_std": (1, 10)}}, {"displacement"}),
    ],
)
def test_one_wrong_number_of_an_ensemble_is_found(fields: dict[str, Any], names: set[str]) -> None:
    """Each test of the ensemble's parameters can fail, and no other fails with it."""
    assert refused(ensemble_p_values(PairRecipe(**fields))) == names


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"mean": (25, 225)}, {"mean"}),
        ({"std": (10, 40)}, {"std"}),
        ({"empty_background_probability": 0.5}, {"empty background"}),
        ({"texture_std": (0, 4)}, {"texture"}),
        ({"artifacts": {"bias_field_coefficients": (0, 0.1)}}, {"bias_field"}),
        ({"artifacts": {"kspace_spike_intensity": (0.95, 1.0)}}, {"spike intensity"}),
        ({"artifacts": {"gamma": (0.5, 4.5)}}, {"gamma"}),
        ({"artifacts": {"smoothing_sigma": (0.25, 0.5)}}, {"smoothing"}),
        ({"artifacts": {"gibbs_alpha": (0, 0.25)}}, {"gibbs"}),
        ({"artifacts": {"sharpening_alpha": (10, 20)}}, {"sharpening alpha"}),
        ({"artifacts": {"low_resolution_zoom": (0.6, 1)}}, {"low_resolution"}),
        ({"artifacts": {"bias_field_probability": 0.9}}, {"bias_field rate"}),
        ({"artifacts": {"kspace_spike_probability": 0.3}}, {"kspace_spike rate"}),
        ({"artifacts": {"gamma_probability": 0.35}}, {"gamma rate"}),
        ({"artifacts": {"sharpening_probability": 0.5}}, {"sharpening rate"}),
    ],
)
def test_one_wrong_number_of_a_view_is_found(fields: dict[str, Any], names: set[str]) -> None:
    """Each test of the view's parameters can fail, and no other fails with it."""
    assert refused(view_p_values(PairRecipe(view=fields))) == names


def test_integers_are_drawn_without_the_bias_of_a_remainder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the 2^64 words each of three numbers gets as many; the one that is left over is drawn again."""
    words = iter([0, 1 << 63])
    monkeypatch.setattr(Stream, "word", lambda self: next(words))
    assert Stream(0).integer(0, 3) == 1
    assert next(words, None) is None
