"""The contact sheet of templates, and the rendering of one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from voxmint.errors import InputError
from voxmint.inspect.bank_picture import bank_picture
from voxmint.inspect.canvas import fit_text, font, new_canvas
from voxmint.inspect.relief import relief

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


class Bank:
    """Balls, as many as asked; remembers which were drawn."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.drawn: list[int] = []

    def __len__(self) -> int:
        return self.size

    def mask(self, index: int) -> np.ndarray:
        self.drawn.append(index)
        return ball(9)

    def name(self, index: int) -> str:
        return f"subject/{index}_a_long_name_that_cannot_fit_under_its_picture"

    def shape(self, index: int) -> tuple[int, int, int]:
        return (9, 9, 9)


def ball(side: int) -> np.ndarray:
    grid = np.indices((side,) * 3) - (side - 1) / 2
    return np.square(grid).sum(axis=0) <= (side / 2) ** 2


def brightness(mask: np.ndarray, size: int = 64) -> np.ndarray:
    return relief(mask, size, WHITE, BLACK).astype(int).sum(axis=-1)


@pytest.mark.parametrize("side", [9, 41, 150])
def test_a_ball_is_lit_from_above_left(side: int) -> None:
    """The upper left of a ball is brighter than the lower right, at any size of the template."""
    picture = brightness(ball(side))
    assert picture[20:26, 20:26].mean() > 1.5 * picture[40:46, 40:46].mean()
    assert picture[40:46, 40:46].mean() > 30
    assert picture[0].sum() == picture[:, 0].sum() == 0


def test_up_is_k_and_right_is_i() -> None:
    """A mark at high i and high k lies in the upper right."""
    mask = np.zeros((20, 20, 20), bool)
    mask[:, 8:12, :2] = mask[:2, 8:12, :] = True  # an L: along i at the bottom, along k on the left
    picture = brightness(mask) > 0
    assert picture[:, 5:9].sum() > 3 * picture[:, -9:-5].sum()
    assert picture[-9:-5].sum() > 3 * picture[5:9].sum()


def test_what_is_far_in_j_is_in_front() -> None:
    """Of two plates the one at high j is seen, brighter than the far one beside it."""
    mask = np.zeros((30, 30, 30), bool)
    mask[:15, 28:], mask[15:, :2] = True, True
    picture = brightness(mask)
    assert picture[20:44, 12:24].mean() > 1.2 * picture[20:44, 40:52].mean()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 300), (400, 2, 2), (2, 900, 2), (3, 300, 300)])
def test_odd_shapes_are_drawn(shape: tuple[int, int, int]) -> None:
    """Single voxels, needles and plates, in any direction, show something."""
    picture = relief(np.ones(shape, bool), 64, WHITE, BLACK)
    assert picture.shape == (64, 64, 3)
    assert picture.max() > 60


def test_thin_walls_survive_shrinking() -> None:
    """A wall one voxel thick in a volume of 300 is drawn without holes."""
    mask = np.zeros((300, 20, 300), bool)
    mask[150, :, :] = True
    columns = (brightness(mask) > 0).sum(axis=0)
    assert columns.max() >= 55


@settings(max_examples=25, deadline=None)
@given(arrays.arrays(np.bool_, st.tuples(*[st.integers(1, 12)] * 3)))
def test_any_mask_gives_a_picture_or_a_clear_error(mask: np.ndarray) -> None:
    """Only an empty mask is refused."""
    if mask.any():
        assert relief(mask, 32, WHITE, BLACK).any()
    else:
        with pytest.raises(InputError, match="empty"):
            relief(mask, 32, WHITE, BLACK)


@pytest.mark.parametrize(("size", "count", "drawn"), [(1, 48, 1), (5, 48, 5), (5000, 12, 12), (7, 1, 1)])
def test_large_banks_are_sampled_evenly(size: int, count: int, drawn: int) -> None:
    """Exactly as many as fit are drawn, each once, from the first to the last."""
    bank = Bank(size)
    bank_picture(bank, count=count, size=32)
    assert len(set(bank.drawn)) == len(bank.drawn) == drawn
    assert bank.drawn[0] == 0
    if drawn > 1:
        assert bank.drawn[-1] == size - 1
        assert np.ptp(np.diff(bank.drawn)) <= 1


def test_chosen_templates_are_drawn_in_order() -> None:
    """Indices override the even choice."""
    bank = Bank(100)
    image = bank_picture(bank, indices=[42, 7], columns=1, size=32)
    assert bank.drawn == [42, 7]
    assert image.height > image.width


def test_an_empty_bank_is_an_error() -> None:
    """There is nothing to look at."""
    with pytest.raises(InputError, match="no template"):
        bank_picture(Bank(0))


@given(st.text(max_size=60), st.integers(0, 300))
def test_captions_never_overflow(text: str, width: int) -> None:
    """A shortened text is no wider than its room."""
    _, pen = new_canvas(10, 10)
    line = text.replace("\n", " ").replace("\r", " ")
    assert pen.textlength(fit_text(pen, line, width), font=font(13)) <= width


def test_long_captions_keep_both_ends() -> None:
    """Subject and structure are at the two ends of a name."""
    _, pen = new_canvas(10, 10)
    shortened = fit_text(pen, "s0123/vertebrae_of_the_lumbar_spine", 120)
    assert shortened.startswith("s01")
    assert shortened.endswith("ine")
