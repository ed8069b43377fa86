"""Pictures of instances: what is drawn where, in which colour."""

from __future__ import annotations

import numpy as np
import pytest

from voxmint.errors import InputError
from voxmint.inspect.gallery import POINT, SEED, TARGET, instance_gallery, instance_slices, rejected_gallery
from voxmint.sample import Sample

SHAPE = (8, 40, 40)


def sample(index: int = 0, shape: tuple[int, int, int] = SHAPE, kept: int = 3) -> Sample:
    """A box 10 wide on slices 2 to 5, one slice of it kept; the last columns are padded."""
    arrays = {name: np.zeros(shape, np.uint8) for name in ("seed", "target")}
    arrays["source"] = np.full(shape, 120, np.uint8)
    arrays["valid"] = np.ones(shape, np.uint8)
    arrays["target"][2:6, 15:25, 12:22] = 1
    arrays["seed"][kept] = arrays["target"][kept]
    arrays["valid"][..., -6:] = 0
    record = {"instance": {"centre_nm": [160.0, 200.0, 100.0]}, "box_nm": [[0.0, 0.0, 0.0], []],
              "voxel_size_nm": [8.0, 8.0, 30.0]}  # fmt: skip
    return Sample(index, f"key{index}", arrays, record)


def where(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Return rows and columns of a colour."""
    return np.argwhere((np.asarray(picture) == colour).all(axis=-1))


def square(points: np.ndarray) -> tuple[int, int]:
    """Return the sides of the box around points."""
    return tuple((np.ptp(points, axis=0) + 1).tolist())


def test_seed_within_and_instance_around() -> None:
    """On a seed slice both outlines are seen: the seed's on the mask's own pixels, the instance's just outside."""
    tile = instance_slices(sample(), columns=1)
    assert tile.mode == "RGB"
    picture = np.asarray(tile)[80:]  # below title, legend and captions of the first slice
    seed, target = where(picture, SEED), where(picture, TARGET)
    factor = 4  # 40 voxels enlarged towards 150 pixels
    assert square(seed) == (10 * factor, 10 * factor)
    slice_of_seed = target[(target[:, 0] > seed[:, 0].min() - 9) & (target[:, 0] < seed[:, 0].max() + 9)]
    assert square(slice_of_seed) == (10 * factor + 2, 10 * factor + 2)
    assert len(seed) == 4 * (10 * factor - 1)


def test_slice_by_slice_shows_every_slice() -> None:
    """Four slices have the instance's outline, one the seed's, eight are drawn."""
    picture = np.asarray(instance_slices(sample(), columns=1))[60:]
    rows = np.unique(where(picture, TARGET)[:, 0])
    assert 1 + np.count_nonzero(np.diff(rows) > 60) == 4
    assert len(np.unique(where(picture, SEED)[:, 0])) == 40
    grey = (picture == 120).all(axis=-1).any(axis=1)
    assert np.count_nonzero(np.diff(grey.astype(int)) == 1) + grey[0] == 8


def test_padding_is_tinted() -> None:
    """Padded voxels are darker and bluish, and take six columns of forty on every slice."""
    tinted = where(instance_slices(sample(), columns=1), (62, 56, 81))
    assert len(tinted) == 8 * (40 * 4) * (6 * 4)
    assert square(tinted)[1] == 6 * 4


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_gallery_shows_a_bare_slice_and_a_seed_slice(axis: str) -> None:
    """Of each sample two slices side by side; only the second has the seed."""
    moved = sample()
    order = {"z": (0, 1, 2), "y": (1, 0, 2), "x": (1, 2, 0)}[axis]
    turned = Sample(0, "key0", {name: array.transpose(order) for name, array in moved.arrays.items()})
    picture = np.asarray(instance_gallery([turned], axis=axis))[60:]
    seed, target = where(picture, SEED), where(picture, TARGET)
    assert seed[:, 1].min() > np.median(target[:, 1])
    assert np.count_nonzero(np.diff(np.unique(target[:, 1])) > 50) == 1


def test_gallery_of_many_is_about_as_wide_as_high() -> None:
    """Twelve samples of unlike shape."""
    image = instance_gallery([sample(n, (8, 40, 40 - n)) for n in range(12)], title="twelve")
    assert 0.5 < image.width / image.height < 2
    alone = instance_gallery([sample()])
    assert alone.width < image.width


@pytest.mark.parametrize(("side", "width"), [(255, 255), (256, 256), (257, 129)])
def test_a_slice_is_shown_whole_below_the_limit(side: int, width: int) -> None:
    """Up to 256 voxels each is a pixel; one more halves it. The instance's outline runs along the whole picture."""
    arrays = {name: np.zeros((3, side, side), np.uint8) for name in ("source", "seed", "target")}
    arrays["seed"][1, 100:103] = arrays["target"][1, 100:103] = 1
    picture = np.asarray(instance_slices(Sample(0, "wide", arrays)))[60:]
    assert square(where(picture, SEED))[1] == width


def test_large_samples_are_shrunk_and_thin_masks_stay() -> None:
    """A slice of 1024 voxels becomes 256 pixels; a seed one voxel thin is still drawn."""
    shape = (3, 1024, 1024)
    arrays = {name: np.zeros(shape, np.uint8) for name in ("source", "seed", "target")}
    arrays["target"][1, 501:503, 100:900] = arrays["seed"][1, 501:502, 100:900] = 1
    image = instance_gallery([Sample(0, "thin", arrays)])
    assert image.width < 700
    assert len(where(np.asarray(image)[60:], SEED)) >= 195


def test_rejected_rows_show_their_place_and_reason() -> None:
    """A cross at the row's centre, and the words, which take more room when they are longer."""
    short = rejected_gallery([(sample(), "no mask")])
    points = where(np.asarray(short), POINT)
    assert len(points) == 24
    # centre (x, y, z) nm = voxel (20, 25, 3): its middle is pixel (82, 102) of the slice
    left, top = 24 + 12, points[:, 0].mean() - 102
    assert points[:, 1].mean() == pytest.approx(left + 82, abs=1)
    grey = np.flatnonzero((np.asarray(short) == 120).all(axis=-1).any(axis=1))
    assert top == pytest.approx(grey[0], abs=1)
    long = rejected_gallery([(sample(), "a chunk could not be read: " + "many words " * 30)])
    assert long.height > short.height
    assert long.width == short.width


def test_what_cannot_be_drawn_is_told() -> None:
    """No samples; samples of another kind."""
    for draw in (instance_gallery, rejected_gallery):
        with pytest.raises(InputError, match="no sample"):
            draw([])
    with pytest.raises(InputError, match="cannot draw"):
        instance_gallery([Sample(0, "pair", {"img": np.zeros((2, 4, 4, 4), np.uint8)})])
