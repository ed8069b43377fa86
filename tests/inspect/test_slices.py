"""Slices and outlines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from voxmint.inspect.slices import (
    OUTLINE,
    cutting_point,
    orthogonal_slices,
    outline,
    overlay_outline,
    shrink_image,
    shrink_labels,
)

masks = arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def test_the_cut_goes_through_the_middle_or_the_labels() -> None:
    """Empty volumes are cut in the middle, others where their labels lie."""
    labels = np.zeros((10, 20, 30), np.uint8)
    assert cutting_point(labels.shape) == (5, 10, 15)
    assert cutting_point(labels.shape, labels) == (5, 10, 15)
    labels[2:5, 15:18, 28] = 7
    assert cutting_point(labels.shape, labels) == (3, 16, 28)


def test_slices_keep_the_order_of_the_axes() -> None:
    """Slice a lies across axis a; its rows and columns are the other two in order."""
    volume = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    i, j, k = orthogonal_slices(volume, (1, 2, 3))
    assert (i == volume[1]).all()
    assert (j == volume[:, 2]).all()
    assert (k == volume[:, :, 3]).all()


def test_outline_of_a_square_is_its_rim() -> None:
    """The rim lies inside the mask and is one pixel wide."""
    mask = np.zeros((7, 7), bool)
    mask[1:6, 1:6] = True
    rim = mask.copy()
    rim[2:5, 2:5] = False
    assert (outline(mask) == rim).all()


@given(masks)
def test_outline_is_inside_the_mask_and_touches_its_outside(mask: np.ndarray) -> None:
    """Without outline, no set pixel has an unset side neighbour."""
    edge = outline(mask)
    assert not (edge & ~mask).any()
    core = mask & ~edge
    assert not (core[1:] & ~mask[:-1]).any()
    assert not (core[:, :-1] & ~mask[:, 1:]).any()


def test_outline_separates_touching_labels() -> None:
    """Two labels side by side are both outlined where they touch, and nowhere at the border of the picture."""
    labels = np.repeat([[1, 1, 2, 2]], 3, axis=0)
    assert (outline(labels) == np.repeat([[False, True, True, False]], 3, axis=0)).all()


def test_overlay_draws_thin_lines_over_the_enlarged_slice() -> None:
    """Enlarged three times, the rim of one voxel is 8 of its 9 pixels, and the rest stays grey."""
    image = np.full((5, 5), 80, np.uint8)
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True
    picture = overlay_outline(image, mask, factor=3)
    assert picture.shape == (15, 15, 3)
    assert (picture == OUTLINE).all(axis=-1).sum() == 8
    assert (picture == 80).all(axis=-1).sum() == 15 * 15 - 8


def test_overlay_of_unlike_shapes_is_an_error() -> None:
    """Silent broadcasting would draw a lie."""
    with pytest.raises(ValueError, match="one shape"):
        overlay_outline(np.zeros((4, 4), np.uint8), np.zeros((1, 4), bool))


def test_shrinking_averages_images_and_samples_labels() -> None:
    """Blocks cut by the border count with their own size."""
    image = np.array([[0, 10, 50], [20, 30, 70]], np.uint8)
    assert shrink_image(image, 2).tolist() == [[15, 60]]
    assert shrink_labels(image, 2).tolist() == [[0, 50]]
    assert shrink_image(image, 1) is image
