"""Errors of a hand: small, recorded, never leaving an empty outline, and exactly what was drawn."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from voxmint.instances.cut.outline import apply_outline_error, draw_outline_error
from voxmint.instances.recipe import OutlineErrorRecipe
from voxmint.randomness import Stream

NONE = {"shift": [0, 0], "radius": 0, "missing": None}


def plane(shape: tuple[int, int] = (40, 30)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[10:22, 8:20] = True
    mask[14:17, 12:15] = False
    return mask


def disc(radius: int) -> np.ndarray:
    r = np.arange(-radius, radius + 1)
    return r[:, None] ** 2 + r**2 <= radius * radius


def test_errors_are_off_by_default() -> None:
    """The default recipe never draws one."""
    assert {draw_outline_error(Stream(n), OutlineErrorRecipe()) is None for n in range(50)} == {True}


def test_dilation_and_erosion_are_those_by_a_disc() -> None:
    """Against SciPy, with nothing eroded from beyond the border."""
    mask = plane()
    mask[0:3, 0:4] = True
    for radius in (1, 2, 4):
        grown = apply_outline_error(mask, NONE | {"radius": radius})
        assert np.array_equal(grown, ndimage.binary_dilation(mask, disc(radius)))
        if radius < 4:
            shrunk = apply_outline_error(mask, NONE | {"radius": -radius})
            assert np.array_equal(shrunk, ndimage.binary_erosion(mask, disc(radius), border_value=1))


def test_a_shift_moves_and_loses_what_leaves() -> None:
    """Two down and three left."""
    moved = apply_outline_error(plane(), NONE | {"shift": [2, -3]})
    assert np.array_equal(moved[2:, :-3], plane()[:-2, 3:])
    assert not moved[:2].any()


def test_a_missed_part_lies_on_one_side() -> None:
    """A quarter of the pixels with the smallest column are gone, up to a straight line."""
    mask = np.ones((20, 20), bool)
    cut = apply_outline_error(mask, NONE | {"missing": {"direction": [0, 3], "share": 0.25}})
    assert not cut[:, :5].any()
    assert cut[:, 5:].all()


def test_an_outline_never_vanishes() -> None:
    """Eroding a line, or shifting it out of the crop, is left out."""
    line = np.zeros((10, 10), bool)
    line[0, 2:5] = True
    assert np.array_equal(apply_outline_error(line, NONE | {"radius": -2}), line)
    assert np.array_equal(apply_outline_error(line, NONE | {"shift": [-4, 0]}), line)


@given(st.integers(0, 2**40))
def test_drawn_errors_stay_within_their_limits(seed: int) -> None:
    """Shift, radius and share as the recipe says; the result has foreground and is the same each time."""
    recipe = OutlineErrorRecipe(probability=1, shift_vx=3, radius_vx=2, missing_probability=0.5)
    error = draw_outline_error(Stream(seed), recipe)
    assert error is not None
    assert error == draw_outline_error(Stream(seed), recipe)
    assert max(map(abs, error["shift"])) <= 3
    assert abs(error["radius"]) <= 2
    if error["missing"] is not None:
        assert 0.05 <= error["missing"]["share"] <= 0.3
        assert any(error["missing"]["direction"])
    changed = apply_outline_error(plane(), error)
    assert changed.any()
    assert changed.shape == plane().shape
