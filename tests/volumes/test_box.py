"""Boxes, and that nm and voxels are converted without a rounding that moves a crop."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxmint.volumes.box import Box, box_around_nm, box_covering_nm, exact, nm_of, size_in_voxels, voxel_at_nm

voxels = st.tuples(*[st.integers(-50, 50)] * 3)
boxes = st.builds(Box.at, voxels, st.tuples(*[st.integers(0, 40)] * 3))
near = st.builds(Box.at, st.tuples(*[st.integers(-4, 4)] * 3), st.tuples(*[st.integers(0, 6)] * 3))
sizes = st.tuples(*[st.sampled_from([1, 4, 8, 16, 33, 40, 3.6, 0.1, 4.04, 45.5])] * 3)


def members(box: Box) -> set[tuple[int, ...]]:
    return {tuple(index) for index in np.argwhere(np.ones(box.shape, bool)) + np.array(box.start)}


@given(near, near)
def test_an_intersection_holds_what_both_hold(one: Box, other: Box) -> None:
    """As sets of voxels."""
    assert members(one.intersect(other)) == members(one) & members(other)
    assert one.contains(other) == (members(other) <= members(one))


@given(boxes, voxels)
def test_a_shift_keeps_the_shape(box: Box, by: tuple[int, int, int]) -> None:
    """And is undone by its opposite."""
    assert box.shift(by).shape == box.shape
    assert box.shift(by).shift([-n for n in by]) == box


def test_slices_pick_a_box_out_of_an_array() -> None:
    """Counted from the first voxel of what the array holds."""
    array = np.arange(6 * 5 * 4).reshape(6, 5, 4)
    held = Box.at((10, -3, 7), array.shape)
    assert array[Box((11, -2, 8), (13, 0, 9)).slices(held)].tolist() == array[1:3, 1:3, 1:2].tolist()


def test_a_reversed_box_is_empty() -> None:
    """Never a negative shape."""
    assert Box((5, 5, 5), (1, 9, 9)).shape == (0, 4, 4)


@given(voxels, sizes, st.tuples(*[st.integers(1, 40)] * 3))
def test_a_crop_has_exactly_its_size_and_the_centre_in_its_middle(
    voxel: tuple[int, int, int], size: tuple[float, float, float], crop: tuple[int, int, int]
) -> None:
    """Odd or even, whether the point is the voxel's corner or its centre."""
    for part in (0, Fraction(1, 2)):
        point = [(v + part) * exact(s) for v, s in zip(voxel, size, strict=True)]
        box = box_around_nm(point, crop, size)
        assert box.shape == crop
        assert tuple(v - a for v, a in zip(voxel, box.start, strict=True)) == tuple(n // 2 for n in crop)


@given(voxels, sizes)
def test_a_voxel_covers_its_nm_and_no_more(voxel: tuple[int, int, int], size: tuple[float, float, float]) -> None:
    """Its lower corner is in it, its upper corner is not; floats would fail at sizes such as 0.1."""
    low, high = Box.at(voxel, (1, 1, 1)).nm(size)
    assert voxel_at_nm(low, size) == voxel
    assert voxel_at_nm(high, size) == tuple(v + 1 for v in voxel)
    assert voxel_at_nm([n - Fraction(1, 10**9) for n in high], size) == voxel


def test_a_decimal_is_taken_as_written() -> None:
    """Three voxels of 0.1 nm are 0.3 nm, which is not so for floats."""
    assert nm_of((3, 3, 3), (0.1, np.float32(0.1), np.float64(0.1))) == (Fraction(3, 10),) * 3
    assert voxel_at_nm((0.3, 0.3, 0.3), (0.1, 0.1, 0.1)) == (3, 3, 3)


@given(boxes, sizes)
def test_the_covering_box_of_a_box_is_itself(box: Box, size: tuple[float, float, float]) -> None:
    """In its own voxels, nothing is gained or lost."""
    assert box_covering_nm(*box.nm(size), size) == box


@pytest.mark.parametrize(
    ("size", "expected"), [((4, 4, 33), (128, 128, 16)), ((8, 8, 33), (64, 64, 16)), ((600, 5.12, 1e6), (1, 100, 1))]
)
def test_a_size_in_nm_is_rounded_to_voxels(size: tuple[float, ...], expected: tuple[int, ...]) -> None:
    """To the nearest count, and at least one."""
    assert size_in_voxels((512, 512, 528), size) == expected
