"""The montage of pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from voxmint.errors import InputError, StorageError
from voxmint.inspect.canvas import BACKGROUND, PANEL, colour_labels, label_colours
from voxmint.inspect.montage import pair_montage, write_montage
from voxmint.sample import Sample


def make(index: int = 0, shape: tuple[int, int, int] = (16, 16, 16), **without: bool) -> Sample:
    """Make a sample whose labels are octants and whose views are constant: 100 and 200."""
    i, j, k = np.indices(shape)
    seg = (4 * (i >= shape[0] // 2) + 2 * (j >= shape[1] // 2) + (k >= shape[2] // 2)).astype(np.uint8)
    img = np.stack([np.full(shape, 100, np.uint8), np.full(shape, 200, np.uint8)])
    arrays = {name: array for name, array in (("seg", seg), ("img", img)) if not without.get(name)}
    return Sample(index, f"foreground_masked_shapes8_{index:07d}", arrays)


def count(image: Image.Image, colour: tuple[int, ...]) -> int:
    return int((np.asarray(image) == colour).all(axis=-1).sum())


def test_every_slice_of_labels_and_views_is_drawn_at_the_same_size() -> None:
    """The views fill three equal squares each, and the labels keep their colours in the right shares."""
    image = pair_montage([make()])
    cell = count(image, (100, 100, 100)) / 3
    assert cell == round(cell**0.5) ** 2
    assert count(image, (200, 200, 200)) == 3 * cell
    # through the centre of mass, (11, 10, 9): the upper half of each axis
    slices = [[4, 5, 6, 7], [2, 3, 6, 7], [1, 3, 5, 7]]
    for label in range(1, 8):
        expected = sum(label in drawn for drawn in slices) * cell / 4
        assert count(image, tuple(label_colours()[label])) == expected


def test_a_label_has_the_same_colour_in_every_picture() -> None:
    """Label 3 is drawn alike whether other labels are there or not."""
    alone = np.full((2, 2), 3, np.uint8)
    with_others = np.array([[3, 9], [1, 3]], np.uint8)
    assert (colour_labels(alone)[0, 0] == colour_labels(with_others)[0, 0]).all()


def test_all_label_colours_differ_and_only_zero_is_black() -> None:
    """255 labels get 255 colours, none near black."""
    colours = label_colours()
    assert len(np.unique(colours, axis=0)) == 256
    assert colours[0].tolist() == [0, 0, 0]
    assert colours[1:].max(axis=1).min() > 80


def test_early_labels_are_told_apart_at_a_glance() -> None:
    """The 40 labels of an ensemble are well apart in RGB."""
    colours = label_colours()[1:41].astype(int)
    distance = np.sqrt(np.square(colours[:, None] - colours[None]).sum(axis=-1))
    assert distance[~np.eye(40, dtype=bool)].min() > 25


def test_labels_beyond_a_byte_wrap_to_bright_colours() -> None:
    """Wide label types are drawn too, and never as background."""
    picture = colour_labels(np.array([[0, 255, 256, 70000]], np.uint32))
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert (picture[0, 2] == label_colours()[1]).all()
    assert picture[0, 3].any()


@pytest.mark.parametrize("missing", ["seg", "img"])
def test_samples_without_labels_or_views_are_drawn(missing: str) -> None:
    """Only what is there takes room."""
    full, part = pair_montage([make()]), pair_montage([make(**{missing: True})])
    assert part.width < full.width
    assert (count(part, (100, 100, 100)) > 0) == (missing == "seg")


def test_samples_of_different_and_oblong_shapes_fit_one_picture() -> None:
    """A small or oblong volume stands in the middle of the largest one's cell."""
    image = pair_montage([make(0, (16, 40, 24)), make(1, (16, 16, 16))], columns=2)
    assert count(image, (100, 100, 100)) == 16 * (40 * 24 + 16 * 24 + 16 * 40 + 3 * 16 * 16)


def test_large_volumes_are_shrunk_below_the_limit() -> None:
    """Side 300 is drawn at half size; views are averaged, not sampled."""
    img = np.zeros((1, 300, 300, 300), np.uint8)
    img[:, ::2] = img[:, :, ::2] = 200
    image = pair_montage([Sample(0, "large", {"img": img})])
    assert image.width < 3 * 300
    assert count(image, (100, 100, 100)) >= 150 * 150 or count(image, (150, 150, 150)) >= 150 * 150


@pytest.mark.parametrize(("number", "columns", "expected"), [(1, None, 1), (3, 3, 3), (2, 9, 2)])
def test_columns_are_as_asked_but_no_more_than_samples(number: int, columns: int | None, expected: int) -> None:
    """No empty columns are drawn."""
    one = pair_montage([make()]).width
    many = pair_montage([make(index) for index in range(number)], columns=columns).width
    assert round((many + 14) / (one + 14)) == expected


def test_title_and_captions_change_the_picture() -> None:
    """Key and title are really written."""
    assert np.asarray(pair_montage([make(0)])).tobytes() != np.asarray(pair_montage([make(1)])).tobytes()
    plain, titled = pair_montage([make()]), pair_montage([make()], title="a title " * 200)
    assert titled.height > plain.height
    assert titled.width == plain.width


def test_the_picture_is_the_same_every_time() -> None:
    """No randomness in a picture."""
    assert pair_montage([make()]).tobytes() == pair_montage([make()]).tobytes()


def test_background_and_tile_are_dark() -> None:
    """A light theme would hide black backgrounds."""
    image = pair_montage([make()])
    assert image.getpixel((0, 0)) == BACKGROUND
    assert count(image, PANEL) > 0


def test_nothing_to_draw_is_an_error() -> None:
    """No samples, no arrays, wrong axes: each says so."""
    with pytest.raises(InputError, match="no sample"):
        pair_montage([])
    with pytest.raises(InputError, match="cannot draw"):
        pair_montage([Sample(0, "empty", {})])
    with pytest.raises(InputError, match="flat"):
        pair_montage([Sample(0, "flat", {"seg": np.zeros((4, 4), np.uint8)})])
    arrays = {"seg": np.zeros((4, 4, 4), np.uint8), "img": np.zeros((2, 5, 5, 5), np.uint8)}
    with pytest.raises(InputError, match="same sides"):
        pair_montage([Sample(0, "unlike", arrays)])


def test_write_montage_replaces_whole_files(tmp_path: Path) -> None:
    """The picture is read back, an older one is replaced, and nothing else stays in the folder."""
    path = tmp_path / "montage.png"
    path.write_bytes(b"old")
    image = pair_montage([make()])
    write_montage(path, image)
    with Image.open(path) as read:
        assert read.tobytes() == image.tobytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["montage.png"]


def test_write_montage_failure_names_the_file(tmp_path: Path) -> None:
    """An impossible target is a StorageError that names it and leaves nothing."""
    image = pair_montage([make()])
    with pytest.raises(StorageError, match=r"absent.*png"):
        write_montage(tmp_path / "absent" / "montage.png", image)
    assert not list(tmp_path.iterdir())
