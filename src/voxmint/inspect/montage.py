"""A picture of samples: each a tile of its label ensemble and its views, cut along the three axes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from voxmint.errors import InputError
from voxmint.files import write_atomically
from voxmint.inspect import canvas as look
from voxmint.inspect.slices import cutting_point, orthogonal_slices, shrink_image, shrink_labels
from voxmint.sample import Sample

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

_SMALLEST, _LARGEST = 150, 256
"""Sides in pixels that slices are enlarged towards, and shrunk below."""
_MARGIN, _GROUP_GAP, _SLICE_GAP, _TILE_GAP, _PADDING = 24, 16, 3, 14, 12
_CAPTION = 28
"""Height in pixels of a tile's line of text."""


def pair_montage(samples: Sequence[Sample], *, columns: int | None = None, title: str = "") -> Image.Image:
    """Draw samples as tiles: label ensemble, view 1, view 2, each as three orthogonal slices through one point.

    Parameters
    ----------
    samples : sequence of Sample
        Each with ``seg``, integer (i, j, k), or ``img``, uint8 (views, i, j, k), or both. Shapes may differ.
    columns : int, optional
        Tiles side by side; by default so many that the picture is about as wide as high.
    title : str
        Written above.

    Returns
    -------
    PIL.Image.Image
        RGB picture. The slices are those across i, j and k. A label has the same colour everywhere; 0 is black.

    Raises
    ------
    InputError
        There is no sample, or one has neither array, or not three axes.
    """
    if not samples:
        raise InputError("no sample to draw", remedy="make at least one sample first")
    layout = _Layout.of(samples, columns, title)
    canvas, pen = look.new_canvas(*layout.size)
    if title:
        fitted = look.fit_text(pen, title, layout.size[0] - 2 * _MARGIN, look.TITLE_SIZE)
        look.write_text(pen, (_MARGIN, _MARGIN - 4), fitted, size=look.TITLE_SIZE)
    for number, sample in enumerate(samples):
        _draw_tile(canvas, pen, sample, layout, layout.corner(number))
    return canvas


def write_montage(path: Path, image: Image.Image) -> None:
    """Write a picture as PNG; nobody ever sees a partial file under ``path``.

    Raises
    ------
    StorageError
        The folder does not exist or cannot be written.
    """
    encoded = io.BytesIO()
    image.save(encoded, format="PNG", compress_level=3)  # half the time of the default, and no larger
    write_atomically(Path(path), [encoded.getvalue()])


@dataclass(frozen=True)
class _Layout:
    """Where everything goes, in pixels."""

    groups: tuple[str, ...]
    cell: int
    factor: int
    divisor: int
    columns: int
    rows: int
    top: int

    @classmethod
    def of(cls, samples: Sequence[Sample], columns: int | None, title: str) -> _Layout:
        """Find the size of a slice from the largest sample, and the number of columns that gives a square picture."""
        largest = max(side for sample in samples for side in _volume_shape(sample))
        divisor = -(-largest // _LARGEST)
        factor = max(1, round(_SMALLEST / largest))
        top = _MARGIN + (look.TITLE_SIZE + _TILE_GAP if title else 0)
        cell = -(-largest // divisor) * factor
        layout = cls(_groups(samples), cell, factor, divisor, 1, len(samples), top)
        width, height = layout.tile
        wanted = columns or max(1, round((len(samples) * height / width) ** 0.5))
        used = min(wanted, len(samples))
        return cls(layout.groups, cell, factor, divisor, used, -(-len(samples) // used), top)

    @property
    def group_width(self) -> int:
        """Width of three slices side by side."""
        return 3 * self.cell + 2 * _SLICE_GAP

    @property
    def tile(self) -> tuple[int, int]:
        """Width and height of one sample."""
        count = len(self.groups)
        return count * self.group_width + (count - 1) * _GROUP_GAP + 2 * _PADDING, _CAPTION + self.cell + _PADDING

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        width, height = self.tile
        return (
            2 * _MARGIN + self.columns * (width + _TILE_GAP) - _TILE_GAP,
            self.top + self.rows * (height + _TILE_GAP) - _TILE_GAP + _MARGIN,
        )

    def corner(self, number: int) -> tuple[int, int]:
        """Return the top left corner of a tile."""
        row, column = divmod(number, self.columns)
        return _MARGIN + column * (self.tile[0] + _TILE_GAP), self.top + row * (self.tile[1] + _TILE_GAP)


def _draw_tile(
    canvas: Image.Image, pen: ImageDraw.ImageDraw, sample: Sample, layout: _Layout, corner: tuple[int, int]
) -> None:
    left, upper = corner
    width, height = layout.tile
    pen.rounded_rectangle((left, upper, left + width - 1, upper + height - 1), radius=6, fill=look.PANEL)
    point = cutting_point(_volume_shape(sample), sample.arrays.get("seg"))
    for number, group in enumerate(layout.groups):
        x = left + _PADDING + number * (layout.group_width + _GROUP_GAP)
        text = _caption(sample) if number == 0 else _heading(number, group, sample)
        look.write_parts(pen, (x, upper + 7), text, layout.group_width)
        for axis, picture in enumerate(_slices(sample, group, point, layout)):
            # a slice smaller than the cell stands in its middle
            free = [(layout.cell - length) // 2 for length in picture.shape[:2]]
            slice_left = x + axis * (layout.cell + _SLICE_GAP)
            look.paste(canvas, picture, (slice_left + free[1], upper + _CAPTION + free[0]))


def _slices(sample: Sample, group: str, point: tuple[int, ...], layout: _Layout) -> list[look.RGB]:
    """Return the coloured, sized slices of one array; none where the sample lacks it."""
    if group == "seg":
        if "seg" not in sample.arrays:
            return []
        pieces = [shrink_labels(piece, layout.divisor) for piece in orthogonal_slices(sample.arrays["seg"], point)]
        return [look.enlarge(look.colour_labels(piece), layout.factor) for piece in pieces]
    view = int(group)
    if "img" not in sample.arrays or view >= len(sample.arrays["img"]):
        return []
    pieces = [shrink_image(piece, layout.divisor) for piece in orthogonal_slices(sample.arrays["img"][view], point)]
    return [look.enlarge(look.colour_grey(piece), layout.factor) for piece in pieces]


def _groups(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return what to show: ``seg`` and the numbers of the views that any sample has."""
    views = max((len(sample.arrays["img"]) for sample in samples if "img" in sample.arrays), default=0)
    labels = ("seg",) if any("seg" in sample.arrays for sample in samples) else ()
    return (*labels, *(str(view) for view in range(views)))


def _volume_shape(sample: Sample) -> tuple[int, ...]:
    """Return the three sides of a sample, voxels."""
    shapes = {name: array.shape for name, array in sample.arrays.items() if name in ("seg", "img")}
    sides = {shape[-3:] for shape in shapes.values()}
    if len(sides) != 1 or len(shapes.get("seg", (0,) * 3)) != 3 or len(shapes.get("img", (0,) * 4)) != 4:
        raise InputError(
            "cannot draw the sample",
            where=sample.key,
            expected="seg (i, j, k) and img (views, i, j, k) of the same sides, or one of them",
            got={name: array.shape for name, array in sample.arrays.items()},
        )
    return sides.pop()


def _caption(sample: Sample) -> tuple[str, str]:
    """Return the number of a sample, and its key where that says more."""
    number = f"{sample.index:06d}"
    return number, "" if sample.key == number else sample.key


def _heading(number: int, group: str, sample: Sample) -> tuple[str, str]:
    """Return the name of a view, and with the first of them the size and the number of labels."""
    name = f"view {int(group) + 1}"
    if number != 1:
        return name, ""
    remark = " x ".join(str(side) for side in _volume_shape(sample))
    if "seg" in sample.arrays:
        labels = int(np.count_nonzero(np.bincount(sample.arrays["seg"].reshape(-1))))
        remark += f"  ·  {labels} label{'s' * (labels != 1)}"
    return name, remark
