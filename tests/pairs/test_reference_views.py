"""Whole views agree with the reference, given the same parameters and the same noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sizes import sized

from reference.ensemble import Mask, ensemble_reference
from reference.random_pairs import Published, noise_of, random_ensemble
from reference.view import view_reference
from voxmint.pairs.draws import draw_view
from voxmint.pairs.engines.cpu.appearance import labels_present, render
from voxmint.pairs.engines.cpu.kernels.intensity import mixture
from voxmint.pairs.engines.cpu.kernels.noise import normal_field, quantile_table, split_key
from voxmint.pairs.recipe import ViewRecipe
from voxmint.randomness import Stream

Labels = NDArray[np.uint8]
STRENGTH = 0.02
OFF_BY_ONE = 1e-3
"""Largest share of voxels that may differ by one grey level: those on the edge of two levels, where floor decides."""
NO_ARTIFACT = {
    f"{name}_probability": 0.0
    for name in ("bias_field", "kspace_spike", "gamma", "smoothing", "gibbs", "sharpening", "low_resolution")
}


@pytest.fixture(scope="module")
def ensembles(masks: list[Mask]) -> list[Labels]:
    """Return label volumes of odd and even sides, cubes and others."""
    made = []
    for seed, shape in enumerate(
        sized(
            [(33, 33, 33), (32, 32, 32), (24, 33, 40), (17, 16, 31)],
            [(17, 17, 17), (16, 16, 16), (12, 17, 20), (9, 8, 15)],
        )
    ):
        parameters = random_ensemble(np.random.default_rng(seed), Published(shape), len(masks))
        made.append(ensemble_reference(masks, parameters, shape, noise_of)["labels"])
    return made


def drawn(seed: int, labels: Labels, **artifacts: float) -> dict[str, Any]:
    recipe = ViewRecipe.from_dict({"artifacts": artifacts})
    return draw_view(Stream(seed, "view"), recipe, labels_present(labels), labels.shape)


def assert_same_view(labels: Labels, parameters: dict[str, Any]) -> None:
    expected = view_reference(labels, parameters, normal_field, STRENGTH)["view"].astype(int)
    got = render(labels, parameters, STRENGTH)
    assert got.dtype == np.uint8
    off = np.abs(got.astype(int) - expected)
    assert off.max() <= 1
    assert np.count_nonzero(off) <= max(2, OFF_BY_ONE * off.size)


@pytest.mark.parametrize("seed", range(sized(24, 8)))
def test_views_equal_the_reference(ensembles: list[Labels], seed: int) -> None:
    """Drawn as in a run: no voxel differs by more than one grey level, and few by one."""
    labels = ensembles[seed % len(ensembles)]
    assert_same_view(labels, drawn(seed, labels))


@pytest.mark.parametrize("number", range(4))
def test_views_with_every_artifact_equal_the_reference(ensembles: list[Labels], number: int) -> None:
    """All seven artifacts one after the other."""
    labels = ensembles[number]
    parameters = drawn(number, labels, **dict.fromkeys(NO_ARTIFACT, 1.0))
    assert all(value is not None for value in parameters["artifacts"].values())
    assert_same_view(labels, parameters)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("number", range(4))
def test_views_without_artifacts_equal_the_reference(ensembles: list[Labels], number: int, empty: bool) -> None:
    """Intensities and texture alone, with the lowest label drawn or left empty."""
    parameters = drawn(number, ensembles[number], **NO_ARTIFACT)
    parameters["intensity"]["empty_background"] = empty
    assert_same_view(ensembles[number], parameters)


def test_another_parameter_is_another_view(ensembles: list[Labels]) -> None:
    """The comparison is no formality: each single drawn value, changed a little, is noticed."""
    labels = ensembles[0]
    parameters = drawn(sized(3, 4), labels, **dict.fromkeys(NO_ARTIFACT, 1.0))
    view = render(labels, parameters, STRENGTH)
    intensity, artifacts = parameters["intensity"], parameters["artifacts"]
    changed = [
        parameters | {"intensity": intensity | {"std": [1.05 * std for std in intensity["std"]]}},
        parameters | {"intensity": intensity | {"key": f"{int(intensity['key'], 16) ^ 1:016x}"}},
        parameters | {"texture": parameters["texture"][:-1]},
        *(parameters | {"artifacts": artifacts | {name: None}} for name in artifacts),
    ]
    for other in changed:
        off = np.abs(render(labels, other, STRENGTH).astype(int) - view.astype(int))
        assert np.mean(off > 0) > 10 * OFF_BY_ONE


@pytest.mark.parametrize("label", [0, 7, 255])
@pytest.mark.parametrize("seed", range(4))
def test_a_single_label_makes_a_valid_view(label: int, seed: int) -> None:
    """One label everywhere, as when the mask misses the volume: drawn or empty, the view equals the reference."""
    labels = np.full((16, 18, 17), label, np.uint8)
    for empty in (False, True):
        parameters = drawn(seed, labels, kspace_spike_probability=0)
        parameters["intensity"]["empty_background"] = empty
        assert_same_view(labels, parameters)
        if empty:
            assert not render(labels, parameters, STRENGTH).any()


@pytest.mark.parametrize("std", [0.0, 10.0])
def test_constant_volumes_are_black_and_never_nan(std: float) -> None:
    """Every artifact on an empty volume, and on one without noise, gives a valid image without a warning."""
    labels = np.zeros((16, 16, 16), np.uint8)
    parameters = drawn(0, labels, **dict.fromkeys(NO_ARTIFACT, 1.0))
    parameters["intensity"] |= {"std": [std], "empty_background": std > 0}
    parameters["texture"] = []
    np.testing.assert_array_equal(render(labels, parameters, STRENGTH), 0)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 16, 5), (2, 3, 64)])
def test_thin_volumes_equal_the_reference(shape: tuple[int, ...]) -> None:
    """The appearance needs no cube and no least size."""
    labels = np.random.default_rng(0).integers(0, 3, shape, dtype=np.uint8)
    for seed in range(4):
        assert_same_view(labels, drawn(seed, labels, kspace_spike_probability=0, bias_field_probability=0))


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(200))
def test_many_views_equal_the_reference(ensembles: list[Labels], seed: int) -> None:
    """As above, many times."""
    labels = ensembles[seed % len(ensembles)]
    assert_same_view(labels, drawn(1000 + seed, labels))


@pytest.mark.parametrize("size", [8, 9, 15])
def test_the_last_voxels_count_for_the_limits(size: int) -> None:
    """Where voxels are not a multiple of those looked at side by side, the rest may be darkest or brightest."""
    mean, std = np.zeros(256, np.float32), np.zeros(256, np.float32)
    mean[:3] = 4, 1, 9
    for label, expected in ((1, (1, 4)), (2, (4, 9))):
        labels, image = np.zeros(size, np.uint8), np.empty(size, np.float32)
        labels[-1] = label
        low, high = mixture(labels, mean, std, *split_key(3), quantile_table(), image)
        assert (low, high) == expected
