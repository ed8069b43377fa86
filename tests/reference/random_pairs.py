"""Whole random pairs, every parameter drawn by NumPy from the published constants (not from a recipe of `voxmint`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.ensemble import Labels, Mask, ensemble_reference
from reference.view import view_reference

View = NDArray[np.uint8]


@dataclass(frozen=True)
class Published:
    """The published constants. Lengths of the foreground are for a side of 128."""

    shape: tuple[int, int, int] = (128, 128, 128)
    templates: tuple[int, int] = (20, 40)
    scale: tuple[float, float] = (0.5, 1.5)
    rotation: tuple[float, float] = (-180, 180)
    shear: tuple[float, float] = (-0.5, 0.5)
    translation: tuple[float, float] = (-5, 5)
    mask_probability: float = 2 / 3
    radius: tuple[int, int] = (48, 72)
    shift: tuple[int, int] = (-32, 32)
    displacement_spacing: tuple[int, ...] = (8, 16, 32)
    displacement_std: tuple[float, float] = (1, 5)
    envelope_probability: float = 1 / 2
    envelope_radius: tuple[int, ...] = (2, 3, 4)
    mean: tuple[float, float] = (25, 255)
    std: tuple[float, float] = (5, 20)
    empty_probability: float = 1 / 4
    texture_spacing: tuple[int, ...] = (4, 8, 16, 32)
    texture_std: tuple[float, float] = (0, 5)
    texture_strength: float = 0.02


def noise_of(key: int, count: int) -> NDArray[np.float64]:
    """Return NumPy's own standard normals for a key."""
    return np.random.default_rng(key).standard_normal(count)


def _key(rng: np.random.Generator) -> str:
    return f"{int(rng.integers(0, 2**63)):016x}"


def random_warp(rng: np.random.Generator, constants: Published, label: int, bank_size: int) -> dict[str, Any]:
    return {
        "label": label,
        "template": int(rng.integers(bank_size)),
        "scale": rng.uniform(*constants.scale, 3),
        "mirror": rng.random(3) < 0.5,
        "rotation": rng.uniform(*constants.rotation, 3),
        "shear": rng.uniform(*constants.shear, 3),
        "translation": rng.uniform(*constants.translation, 3),
    }


def random_foreground(rng: np.random.Generator, constants: Published) -> dict[str, Any] | None:
    if rng.random() >= constants.mask_probability:
        return None
    # positions go with the side of their axis, lengths with the mean side
    ratio = float(np.mean(constants.shape)) / 128
    (low, high), (left, right) = constants.radius, constants.shift
    scales = [
        {"spacing": spacing * ratio, "std": rng.uniform(*constants.displacement_std) * ratio, "key": _key(rng)}
        for spacing in constants.displacement_spacing
    ]
    return {
        "radius": int(rng.integers(round(low * ratio), round(high * ratio))),
        "centre": [n // 2 + rng.integers(round(left * n / 128), round(right * n / 128)) for n in constants.shape],
        "displacement": scales,
        "envelope": int(rng.choice(constants.envelope_radius))
        if rng.random() < constants.envelope_probability
        else None,
    }


def random_ensemble(rng: np.random.Generator, constants: Published, bank_size: int) -> dict[str, Any]:
    count = int(rng.integers(*constants.templates))
    return {
        "templates": [random_warp(rng, constants, label, bank_size) for label in range(count)],
        "foreground": random_foreground(rng, constants),
    }


def random_artifacts(rng: np.random.Generator, shape: Sequence[int]) -> dict[str, Any]:
    """Draw the artifacts with the published probabilities and MONAI's default limits."""

    def chance(probability: float) -> bool:
        return bool(rng.random() < probability)

    sigma1 = rng.uniform(0.5, 1.0, 3)
    spike = {"location": [int(rng.integers(n)) for n in shape], "intensity": rng.uniform(0.95, 1.1)}
    sharpening = {"sigma1": sigma1, "sigma2": rng.uniform(0.5, sigma1), "alpha": rng.uniform(10, 30)}
    return {
        "bias_field": list(rng.uniform(0, 0.075, 20)) if chance(0.98) else None,
        "kspace_spike": spike if chance(0.2) else None,
        "gamma": rng.uniform(0.5, 2) if chance(0.5) else None,
        "smoothing": rng.uniform(0, 0.333, 3) if chance(0.5) else None,
        "gibbs": rng.uniform(0, 0.333) if chance(0.5) else None,
        "sharpening": sharpening if chance(0.25) else None,
        "low_resolution": rng.uniform(0.5, 1) if chance(0.333) else None,
    }


def random_view(rng: np.random.Generator, constants: Published, labels: Labels) -> dict[str, Any]:
    present = np.unique(labels)
    intensity = {
        "labels": present.tolist(),
        "mean": rng.uniform(*constants.mean, len(present)),
        "std": rng.uniform(*constants.std, len(present)),
        "empty_background": rng.random() < constants.empty_probability,
        "key": _key(rng),
    }
    texture = [
        {"spacing": spacing, "std": rng.uniform(*constants.texture_std), "key": _key(rng)}
        for spacing in constants.texture_spacing
    ]
    return {"intensity": intensity, "texture": texture, "artifacts": random_artifacts(rng, labels.shape)}


def pair_reference_random(
    rng: np.random.Generator, masks: Sequence[Mask], constants: Published
) -> tuple[Labels, View, View, dict[str, Any]]:
    """Make one random pair.

    Returns
    -------
    labels, view1, view2 : uint8 (I, J, K)
    info : dict
        The drawn parameters: ``ensemble`` and ``views``.
    """
    ensemble = random_ensemble(rng, constants, len(masks))
    labels = ensemble_reference(masks, ensemble, constants.shape, noise_of)["labels"]
    drawn = [random_view(rng, constants, labels) for _ in range(2)]
    view1, view2 = (view_reference(labels, view, noise_of, constants.texture_strength)["view"] for view in drawn)
    return labels, view1, view2, {"ensemble": ensemble, "views": drawn}
